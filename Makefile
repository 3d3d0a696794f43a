# `make demo` shows sparkfleet at work, `make test` runs the tests. Both install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := .venv-site
# Two processes, each with a lab of its own and a module at a time. Modules on lab machines come first:
# they mostly wait for machines, and the unit tests use the rest of the CPU.
SIDE_BY_SIDE := -n 2 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup docker demo demo-down test test-unit test-full test-real-vllm test-real-llamacpp
.PHONY: lint format bench docs site clean knowledge

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(STAMP): pyproject.toml lab/pyproject.toml requirements.txt
	@echo "--> Python environment in $(VENV) (packages pinned in requirements.txt)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable . --editable lab
	@touch $@

setup: $(STAMP)  ## create .venv with sparkfleet and its lab

docker:  # Docker Engine for the lab; prints each step before it is taken
	@tools/ensure-docker.sh

demo: $(STAMP) docker  ## a lab of two Sparks: converge, ask the model, plan again
	@$(BIN)/python tools/demo.py

demo-down: $(STAMP)  ## remove the lab of the demo
	@$(BIN)/sparkfleet lab down

test: lint site docker  ## lint, unit tests and tests on lab machines
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m "not full and not real_vllm and not real_llamacpp" $(PYTEST_ARGS)

test-unit: $(STAMP)  ## tests that need no lab machines
	@$(BIN)/python -m pytest -q tests/unit $(PYTEST_ARGS)

test-full: $(STAMP) docker  ## every test, with the long sweeps
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m "not real_vllm and not real_llamacpp" $(PYTEST_ARGS)

test-real-vllm: $(STAMP) docker  ## the real vLLM on CPU, on one lab Spark and over two
	@$(BIN)/python -m pytest -q -m real_vllm $(PYTEST_ARGS)

test-real-llamacpp: $(STAMP) docker  ## the real llama-server, built for CPU, on a lab Spark
	@$(BIN)/python -m pytest -q -m real_llamacpp $(PYTEST_ARGS)

bench: $(STAMP) docker  ## medians and ratios against other tools, measured in one run (BENCH_ARGS=--quick: small)
	@$(BIN)/python -m tools.bench $(BENCH_ARGS)

lint: $(STAMP)  ## ruff, mypy strict, and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

$(SITE)/.installed: tools/site/requirements.txt
	@test -x $(SITE)/bin/python || $(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/pip install --quiet --require-hashes --requirement $<
	@touch $@

site: $(SITE)/.installed  ## the documentation as a site in build/site; a link to nothing is an error
	@$(SITE)/bin/zensical build --clean --strict

docs: $(STAMP)  ## regenerate docs/reference, docs/schema, the limits and the picture in CONTRIBUTING.md
	@$(BIN)/python tools/generate_reference.py
	@$(BIN)/python tools/architecture.py
	@$(BIN)/python tools/host_limits.py

knowledge: $(STAMP)  ## an archive for `sparkfleet knowledge update` (RELEASE="0.34.0 ...": more vLLM releases)
	@$(BIN)/python -m tools.make_knowledge $(RELEASE)

format: $(STAMP)  ## format the code and apply the fixes of ruff
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove the virtual environment and caches (the lab: make demo-down)
	@rm -rf $(VENV) $(SITE) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
