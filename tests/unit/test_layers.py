"""What import-linter cannot declare (its contracts are in pyproject.toml): the standard library alone."""

from __future__ import annotations

import ast
import re
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
    SOURCE / "data_files.py",
    SOURCE / "units.py",
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


OTHER_READERS = {
    "contract/codec.py": "the reader",
    "contract/generation.py": "names of the project's own earlier versions, in the package",
    "contract/registry_credentials.py": "Docker's file of credentials: its errors must not show a value",
    "engines/vllm/adapters.py": "a flag's value",
    "engines/vllm/arg_parser.py": "a flag's value, as vLLM reads it",
    "engines/vllm/check.py": "a flag's value",
    "engines/vllm/rules/storage.py": "a flag's value",
    "engines/vllm/values.py": "a flag's value",
    "engines/openai_api.py": "on a Spark: an engine's response, which the gate judges",
    "resources/kinds/directory.py": "on a Spark: the output of a child process of its own",
    "zipapp.py": "writes the patterns of failures into the programs",
}
"""Modules that read JSON without the codec, with the reason."""
HOST_PROGRAMS = ("onhost/", "runtimes/docker/onhost/")
"""Programs and drivers on a Spark: output of Docker, ip and iperf3, read where it is needed."""


def test_the_operators_side_reads_json_by_the_codec_alone() -> None:
    readers = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if re.search(r"\bjson\.loads?\b", path.read_text(encoding="utf-8"))
    }
    assert {name for name in readers if not name.startswith(HOST_PROGRAMS)} == set(OTHER_READERS)
