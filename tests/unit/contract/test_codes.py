"""Every diagnostic has a registered code, and every code a test that provokes it."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
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


def program_trees() -> dict[str, ast.Module]:
    """Return each module of the program and of the lab, parsed; a stand-in has the codes of another API."""
    paths = sorted([*SOURCE.rglob("*.py"), *(ROOT / "src" / "sparkfleet_lab").rglob("*.py")])
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
        for path in paths
        if "standins" not in path.parts
    }


def values(node: ast.AST | None) -> Iterator[str]:
    """Yield the texts that an expression may evaluate to, where they are written in it."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from values(one)
            yield from values(other)
        case ast.BoolOp(values=each):
            for one in each:
                yield from values(one)
        case ast.Subscript(value=ast.Dict(values=each)):
            for one in each:
                yield from values(one)


def code_positions(tree: ast.AST) -> dict[str, int]:
    """Return the position of the argument ``code: str`` by the name of the function or class."""
    found = {}
    owners = {one: owner for owner in ast.walk(tree) if isinstance(owner, ast.ClassDef) for one in owner.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [
                one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in {"self", "cls"}
            ]
            texts = {
                one.arg for one in node.args.args if one.annotation and ast.unparse(one.annotation) == "str"
            }
            if "code" in texts:
                owner = owners.get(node)
                name = owner.name if owner and node.name == "__init__" else node.name
                found[name] = names.index("code")
    return found


def literal_codes(trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """Yield each code that is written in a call, with its place: by keyword or by position."""
    everywhere = {name: at for tree in trees.values() for name, at in code_positions(tree).items()}
    for path, tree in trees.items():
        positions = {**everywhere, **code_positions(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                expressions = [word.value for word in node.keywords if word.arg == "code"]
                at = positions.get(name, len(node.args))
                for one in (*expressions, *node.args[at : at + 1]):
                    for code in values(one):
                        yield f"{path}:{node.lineno}", code


CALLS = {
    "Diagnostic('', 'x', code='constant')": ["constant"],
    "Diagnostic('', 'x', code='bad-json' if x else 'no-such-code')": ["bad-json", "no-such-code"],
    "Diagnostic('', 'x', code=known or 'other')": ["other"],
    "def diagnostic_of(data, code: str): ...\ndiagnostic_of(data, 'by-position')": ["by-position"],
    "class Broken:\n def __init__(self, found, code: str): ...\nBroken('x', 'of-a-class')": ["of-a-class"],
    "def exits(code: int): ...\nexits(1)": [],
}


@pytest.mark.parametrize("text", CALLS)
def test_a_code_is_found_where_it_is_written(text: str) -> None:
    assert [code for _, code in literal_codes({"x.py": ast.parse(text)})] == CALLS[text]


def test_every_literal_code_is_registered() -> None:
    found = list(literal_codes(program_trees()))
    assert len(found) > 300
    assert [(place, code) for place, code in found if code not in CODES] == []


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_kebab_case_and_has_a_cause_and_a_remedy_of_one_line(code: str) -> None:
    assert KEBAB.fullmatch(code)
    for text in (CODES[code].cause, CODES[code].remedy):
        assert text
        assert "\n" not in text


def test_every_code_has_a_test_without_a_lab_that_provokes_it(provoking: dict[str, str]) -> None:
    proven = {code for code, test in provoking.items() if test.startswith("tests/unit/")}
    assert sorted(CODES.keys() - proven) == []


def test_no_test_is_marked_with_an_unknown_code(provoking: dict[str, str]) -> None:
    assert sorted(provoking.keys() - CODES.keys()) == []


SAME_STATE = {
    "mount-missing",
    "bad-flag-value",
    "bad-json",
    "container-name-taken",
    "device-missing",
    "disk-full",
    "driver-flavour",
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
