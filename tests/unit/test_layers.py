"""What runs on a Spark is self-contained."""

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
]


NEWER = {"_sha2"}
"""Modules of the standard library of newer Pythons, which a Spark may have."""


@pytest.mark.parametrize("path", ON_A_SPARK, ids=lambda path: path.name)
def test_what_runs_on_a_spark_needs_nothing_but_the_standard_library(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert (
            top in sys.stdlib_module_names | NEWER
            or name.split(".")[:2] == ["sparkfleet", "engines"]
            or name.startswith(
                (
                    "sparkfleet.contract",
                    "sparkfleet.onhost",
                    "sparkfleet.runtimes.base",
                    "sparkfleet.runtimes.onhost",
                    "sparkfleet.runtimes.docker.onhost",
                )
            )
            or name in {"sparkfleet", "sparkfleet.runtimes"}
        ), name
