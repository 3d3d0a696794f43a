"""The plan of the house: which room may import which, and what runs on a Spark is self-contained."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "sparkfleet"

MAY_IMPORT = {
    "errors": set(),
    "onhost": {"probe.looks"},
    "probe": {"errors"},
    "vllm": {"errors", "onhost.trial.diagnose"},
    "spec": {"errors", "vllm", "onhost.service.generation"},
    "catalog": {"errors", "spec", "vllm"},
    "lock": {"errors", "spec", "vllm", "catalog", "onhost.fetch.access"},
    "rules": {"errors", "spec", "vllm"},
    "offline": {"errors", "spec", "lock", "onhost"},
    "plan": {"errors", "spec", "vllm", "probe", "onhost", "rules"},
    "terminal": set(),
    "collector": set(),
    "ssh": set(),
    "inventory": {"errors", "spec", "catalog", "lock", "vllm", "rules"},
    "facts": {"errors", "probe", "spec"},
    "operations": {
        "errors",
        "facts",
        "offline",
        "plan",
        "probe",
        "spec",
        "onhost",
        "vllm",
        "terminal",
        "collector",
        "rules",
    },
    "lab": {"errors", "vllm", "terminal"},
    "cli": None,  # on top: anything
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


MODULES = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py"]


def is_below(name: str, room: str, allowed: set[str]) -> bool:
    """Tell whether a room may import a name: its own, an allowed one, or a package on the way to one."""
    return any(
        name == known or name.startswith(f"{known}.") or known.startswith(f"{name}.")
        for known in (room, *allowed)
    )


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_each_room_imports_only_the_rooms_below_it(room: str) -> None:
    allowed = MAY_IMPORT[room]
    if allowed is None:
        return
    for path in MODULES:
        if room_of(path) != room:
            continue
        for name in imports(path):
            if not name.startswith("sparkfleet."):
                continue
            below = name.removeprefix("sparkfleet.")
            assert is_below(below, room, allowed), f"{path.name} imports {name}"


def test_every_room_has_its_place_in_the_plan() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__"} == set(MAY_IMPORT)


FLOORS_ON_A_SPARK = (
    {"service"},
    {"machine"},
    {"books"},
    {"trial", "fetch", "prepare", "fabric"},
    {"cluster", "prune", "copy"},
    {"swap", "guard", "image"},
    {"stage", "bundle"},
    {"main"},
)
"""Folders and modules of ``onhost/``, from the ground."""
FLOORS_OF_OPERATIONS = ({"edge"}, {"run"}, {"staging"})
"""Folders of ``operations/``, from the ground; what is not named stands on top."""


@pytest.mark.parametrize(
    ("house", "floors"), [("onhost", FLOORS_ON_A_SPARK), ("operations", FLOORS_OF_OPERATIONS)]
)
def test_folders_of_a_room_import_only_from_floors_below(house: str, floors: tuple[set[str], ...]) -> None:
    folder, top = SOURCE / house, len(floors)
    floor_of = {room: number for number, rooms in enumerate(floors) for room in rooms}
    for path in folder.rglob("*.py"):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        for name in imports(path):
            if room == "__init__" or not name.startswith(f"sparkfleet.{house}."):
                continue
            other = name.split(".")[2]
            lower = floor_of.get(other, top) < floor_of.get(room, top)
            assert lower or other == room or room not in floor_of, f"{path} imports {name}"


ON_A_SPARK = [
    *(path for path in (SOURCE / "onhost").rglob("*.py") if path.name != "bundle.py"),
    *(SOURCE / "probe" / "looks").glob("*.py"),
]


NEWER = {"_sha2"}
"""Modules of the standard library of newer Pythons, which a Spark may have."""


@pytest.mark.parametrize("path", ON_A_SPARK, ids=lambda path: path.name)
def test_what_runs_on_a_spark_needs_nothing_but_the_standard_library(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert (
            top in sys.stdlib_module_names | NEWER
            or name.startswith(("sparkfleet.onhost", "sparkfleet.probe.looks"))
            or name == "sparkfleet"
        ), name
