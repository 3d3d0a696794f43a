"""Nothing outside ``engines/`` names an engine: prose (docstrings, comments) may, code may not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.onhost.gate import failure_patterns

SOURCE = Path(engines.__file__).parents[1]
NAMES = re.compile(
    r"vllm|llama[._]?cpp|llama-server|sglang|ollama|trtllm|tensorrt|lmdeploy"
    r"|(?<![a-z])(ray|nim|tgi|mp)(?![a-z0-9])",  # an engine's executors, and names that are part of words
    re.IGNORECASE,
)


def docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of the nodes that are prose: strings that stand as statements."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def code_names(tree: ast.AST) -> Iterator[str]:
    """Yield identifiers, imports and string literals."""
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        for field in ("name", "id", "attr", "arg", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value


def named(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {word for word in code_names(tree) if NAMES.search(word)}


@pytest.mark.parametrize(
    ("code", "is_name"),
    [
        ("RAY_PORT = 6379", True),
        ("rank.executor == 'ray'", True),
        ("start_ray()", True),
        ("executor = 'mp'", True),
        ("tools = ('ray start',)", True),
        ("import sparkfleet.engines.vllm", True),
        ("image = 'nvcr.io/nvidia/tensorrt-llm'", True),
        ("array = temp", False),
        ("'''Ray is prose.'''", False),
    ],
)
def test_names_of_engines_and_of_their_executors_are_found(tmp_path: Path, code: str, is_name: bool) -> None:
    path = tmp_path / "module.py"
    path.write_text(code)
    assert bool(named(path)) == is_name


OUTSIDE = sorted(path for path in SOURCE.rglob("*.py") if SOURCE / "engines" not in path.parents)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_code_outside_engines_names_an_engine(path: Path) -> None:
    assert named(path) == set()


@pytest.mark.parametrize("entry", failure_patterns.shared_patterns()["failures"], ids=lambda one: one["id"])
def test_a_failure_of_every_engine_names_none_in_pattern_cause_and_remedy(entry: dict[str, Any]) -> None:
    assert not any(NAMES.search(entry[key]) for key in ("re", "cause", "remedy"))
