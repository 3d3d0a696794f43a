"""Nothing outside ``engines/`` names an engine: prose (docstrings, comments) may, code may not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet import engines

SOURCE = Path(engines.__file__).parents[1]
NAMES = ("vllm", "llamacpp", "llama.cpp")


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
    return {word for word in code_names(tree) if any(name in word.lower() for name in NAMES)}


OUTSIDE = sorted(path for path in SOURCE.rglob("*.py") if SOURCE / "engines" not in path.parents)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_code_outside_engines_names_an_engine(path: Path) -> None:
    assert named(path) == set()
