# sparkfleet: `make demo` shows it, `make test` proves it. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests on lab machines wait most of their time: one process has them, the other one the unit tests.
SIDE_BY_SIDE := -n 2

.DEFAULT_GOAL := help
.PHONY: help setup docker demo demo-down test test-unit test-full test-real-vllm lint format bench docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(STAMP): pyproject.toml lab/pyproject.toml requirements.txt
	@echo "--> Python environment in $(VENV) (packages pinned in requirements.txt)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable . --editable lab
	@touch $@

setup: $(STAMP)  ## the virtual environment with sparkfleet in it

docker:  # Docker Engine for the lab: says what it does before it does it
	@tools/ensure-docker.sh

demo: $(STAMP) docker  ## a lab of two Sparks, converged, asked, and planned again
	@$(BIN)/python tools/demo.py

demo-down: $(STAMP)  ## take the demo's lab down
	@$(BIN)/sparkfleet lab down

test: lint docker  ## every test, those on lab machines included
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m "not full and not real_vllm" $(PYTEST_ARGS)

test-unit: $(STAMP)  ## tests that need no lab machines
	@$(BIN)/python -m pytest -q tests/unit $(PYTEST_ARGS)

test-full: $(STAMP) docker  ## every test, long sweeps whole
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m "not real_vllm" $(PYTEST_ARGS)

test-real-vllm: $(STAMP) docker  ## the real vLLM on CPU, on one lab Spark and over two
	@$(BIN)/python -m pytest -q -m real_vllm $(PYTEST_ARGS)

bench: $(STAMP) docker  ## medians and ratios against other tools, measured in one run (BENCH_ARGS=--quick: small)
	@$(BIN)/python -m tools.bench $(BENCH_ARGS)

lint: $(STAMP)  ## ruff, mypy strict, and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

docs: $(STAMP)  ## write docs/reference and docs/schema anew from the code
	@$(BIN)/python tools/generate_reference.py

format: $(STAMP)  ## put the code in ruff's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove the virtual environment and caches (the lab: make demo-down)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
