"""The how-tos for contributors are followed as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sparkfleet.cli import check_report
from sparkfleet.contract.diagnostic import Severity
from sparkfleet.engines.vllm import rules
from sparkfleet.inventory import read_fleet
from tests.unit.config.fleet_files import write
from tests.unit.engines.vllm.rules.services import Sample

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (HOW_TO / page).read_text(), re.MULTILINE | re.DOTALL)


def test_a_rule_is_added_by_its_how_to(monkeypatch: pytest.MonkeyPatch, codes_of_test: set[str]) -> None:
    source, rows = blocks("add-a-rule.md", "python")
    module: dict[str, Any] = vars(ModuleType("rule_of_the_how_to"))
    exec(compile(source, "add-a-rule.md", "exec", dont_inherit=True), module)
    rule = module["short_context"]
    codes_of_test.add(rule.id)
    monkeypatch.setattr(rules, "RULES", (*rules.RULES, rule))
    tables: dict[str, Any] = {"Sample": Sample}
    exec(rows, tables)
    for id_, level, sample in tables["AGAINST"]:
        assert sample.diagnostics()[id_].severity == level
    for id_, sample in tables["FOR"]:
        assert id_ not in sample.diagnostics()
    ((_, _, sample),) = tables["AGAINST"]
    silent = replace(sample.host(), ignore_rules=((rule.id, "agents are not used"),))
    assert rule.id not in {one.code for one in rules.check(sample.service(), silent)}
    assert rule.id not in {known.id for known in rules.RULES if known is not rule}


def test_a_recipe_is_added_by_its_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe,) = blocks("add-a-recipe.md", "yaml")
    name = recipe.split()[1]
    monkeypatch.chdir(tmp_path)
    files = write(tmp_path, {"spark-01.yaml": f"serve: {name}\n", f"recipes/{name}.yaml": recipe})
    service = files.service()
    assert (service.recipe, service.weights.repo) == (name, "ibm-granite/granite-4.0-h-tiny")
    assert ("max-model-len", 65536) in service.flags
    files.pin()
    loaded = read_fleet(files.inventory)
    assert not [one for one in check_report.diagnostics(loaded) if one.severity != Severity.INFO]
    extended = "recipe: short\nextends: granite-4-tiny\nflags: {gpu-memory-utilization: null}\n"
    files = write(
        tmp_path,
        {"spark-01.yaml": "serve: short\n", f"recipes/{name}.yaml": recipe, "recipes/short.yaml": extended},
    )
    assert dict(files.service().flags).keys() == {"max-model-len", "max-num-seqs"}


@pytest.mark.parametrize(
    ("page", "number", "path"),
    [
        ("add-a-rule.md", 0, "src/sparkfleet/engines/vllm/rules/example.py"),
        ("add-a-kind-of-host-state.md", 0, "src/sparkfleet/resources/kinds/kernel_module.py"),
        ("add-a-kind-of-host-state.md", 1, "tests/unit/resources/test_kernel_module.py"),
        ("add-an-engine.md", 0, "src/sparkfleet/engines/llamacpp/example.py"),
        ("add-an-engine.md", 1, "src/sparkfleet/engines/llamacpp/example_onhost.py"),
    ],
)
def test_the_code_of_a_how_to_passes_the_linter(page: str, number: int, path: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", path, "-"]
    source = blocks(page, "python")[number]
    linter = subprocess.run(
        command, input=source, cwd=HOW_TO.parents[1], capture_output=True, text=True, check=False
    )
    assert linter.returncode == 0, linter.stdout
