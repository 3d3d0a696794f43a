"""Every diagnostic has a registered code, and every code a test that provokes it."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet import engines
from sparkfleet.contract.codes import CODES
from sparkfleet.onhost.gate import failure_patterns

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "sparkfleet"
KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@pytest.fixture(scope="module")
def provoking() -> dict[str, str]:
    """Return, by code, a test that provokes it: as the reference page has it."""
    path = ROOT / "tools" / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    found: dict[str, str] = module.provoking_tests()
    return found


def literal_codes() -> Iterator[tuple[str, str]]:
    """Yield each ``code="..."`` in a call of the program and of the lab, with its place."""
    for path in sorted([*SOURCE.rglob("*.py"), *(ROOT / "src" / "sparkfleet_lab").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                for word in node.keywords:
                    if word.arg == "code" and isinstance(word.value, ast.Constant):
                        assert isinstance(word.value.value, str)
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", word.value.value


def test_every_literal_code_is_registered() -> None:
    assert [(place, code) for place, code in literal_codes() if code not in CODES] == []


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_kebab_case_and_has_a_cause_and_a_remedy_of_one_line(code: str) -> None:
    assert KEBAB.fullmatch(code)
    for text in (CODES[code].cause, CODES[code].remedy):
        assert text
        assert "\n" not in text


def test_every_code_has_a_test_that_provokes_it(provoking: dict[str, str]) -> None:
    assert sorted(CODES.keys() - provoking.keys()) == []


def test_no_test_is_marked_with_an_unknown_code(provoking: dict[str, str]) -> None:
    assert sorted(provoking.keys() - CODES.keys()) == []


SAME_STATE = {
    "mount-missing",
    "bad-flag-value",
    "bad-json",
    "container-name-taken",
    "device-missing",
    "disk-full",
    "image-missing",
    "memory-floor",
    "killed-by-memory-limit",
    "unknown-flag",
}
"""Codes of what a check finds and what a log may show as well."""


def test_codes_rules_and_failure_patterns_share_a_name_only_for_the_same_state() -> None:
    entries = [failure_patterns.read(name) for name in engines.host_names()]
    patterns = {entry["id"] for one in entries for kind in ("failures", "endings") for entry in one[kind]}
    rules = {rule.id for name in engines.names() for rule in engines.get(name).rules()}
    assert patterns & CODES.keys() == SAME_STATE
    assert rules & (patterns | CODES.keys()) == set()
