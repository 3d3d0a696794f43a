"""What import-linter cannot declare (its contracts are in pyproject.toml): the standard library alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.zipapp import ENGINE_MODULES

SOURCE = Path(__file__).parents[2] / "src" / "sparkfleet"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


ON_A_SPARK = [
    *(SOURCE / "contract").rglob("*.py"),
    *(SOURCE / "onhost").rglob("*.py"),
    *(SOURCE / "engines" / name for name in ENGINE_MODULES),
    *(SOURCE / "engines").glob("*/onhost.py"),
    *(SOURCE / "engines").glob("*/__init__.py"),
    *(SOURCE / "runtimes").glob("*.py"),
    *(SOURCE / "runtimes" / "docker" / "onhost").rglob("*.py"),
    *(SOURCE / "resources").rglob("*.py"),
]


@pytest.mark.parametrize("path", ON_A_SPARK, ids=lambda path: path.name)
def test_what_runs_on_a_spark_needs_no_other_distribution(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] in sys.stdlib_module_names | {"sparkfleet"}, name
