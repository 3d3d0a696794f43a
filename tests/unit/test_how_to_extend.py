"""The how-tos for contributors are followed as they are written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.engines.vllm import rules
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
    assert rule.id in {one.id for one in engines.get("vllm").rules()}
    assert rule.id not in {known.id for known in rules.RULES if known is not rule}


def test_a_recipe_is_added_by_its_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe,) = blocks("add-a-recipe.md", "yaml")
    name = recipe.split()[1]
    monkeypatch.chdir(tmp_path)
    files = write(tmp_path, {"spark-01.yaml": f"serve: {name}\n", f"recipes/{name}.yaml": recipe})
    service = files.service()
    assert (service.recipe, service.weights.repo) == (name, "ibm-granite/granite-4.0-h-tiny")
    assert ("max-model-len", 65536) in service.flags
    extended = "recipe: short\nextends: granite-4-tiny\nflags: {gpu-memory-utilization: null}\n"
    files = write(
        tmp_path,
        {"spark-01.yaml": "serve: short\n", f"recipes/{name}.yaml": recipe, "recipes/short.yaml": extended},
    )
    assert dict(files.service().flags).keys() == {"max-model-len"}
