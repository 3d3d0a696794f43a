"""The picture of the packages is drawn from their imports."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "tools" / "architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_in_contributing_is_current(tool: Any) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert tool.BEGIN in page
    assert tool.with_picture(page, tool.packages()) == page, "run make docs"


def test_packages_do_not_import_each_other_in_a_cycle(tool: Any) -> None:
    assert tool.cycles(tool.packages()) == []


def test_a_cycle_is_found_with_all_of_its_imports(tool: Any) -> None:
    graph = {"a": frozenset("bd"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset()}
    assert tool.cycles(graph) == [("a", "b"), ("b", "c"), ("c", "a")]


def test_an_import_of_another_package_is_an_arrow_and_one_for_type_checkers_is_none(
    tool: Any, tmp_path: Path
) -> None:
    files = {
        "a/__init__.py": "",
        "a/one.py": "def f() -> None:\n    from sparkfleet.b import two\n",
        "b/__init__.py": "",
        "b/two.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sparkfleet.a import one\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = tool.packages(tmp_path)
    assert graph == {"a": frozenset({"b"}), "b": frozenset()}
    assert tool.picture(graph) == "```mermaid\ngraph TD\n    a --> b\n```\n"


def test_an_import_that_follows_from_others_is_not_drawn(tool: Any) -> None:
    graph = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    assert list(tool.reduced(graph)) == [("a", "b"), ("b", "c")]


def test_packages_that_import_each_other_keep_both_arrows(tool: Any) -> None:
    graph = {"a": frozenset("b"), "b": frozenset("a")}
    assert list(tool.reduced(graph)) == [("a", "b"), ("b", "a")]
