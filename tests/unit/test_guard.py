"""The guard of tests/unit/conftest.py: a unit test changes no file outside its temporary directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guard import REPO, Guard

CHANGES: dict[str, Callable[[Path], object]] = {
    "writes": lambda path: (path / "file").write_text("new"),
    "appends": lambda path: (path / "file").open("a"),
    "creates with os.open": lambda path: os.open(path / "other", os.O_CREAT),
    "makes a directory": lambda path: (path / "new").mkdir(),
    "removes": lambda path: (path / "file").unlink(),
    "removes a tree": shutil.rmtree,
    "renames": lambda path: (path / "file").rename(path / "other"),
    "links": lambda path: (path / "link").symlink_to("file"),
    "changes the mode": lambda path: (path / "file").chmod(0o600),
    "touches": lambda path: os.utime(path / "file"),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a directory with a file that a guard does not allow."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("old")
    (tmp_path / "inside").mkdir()
    return path


@pytest.fixture(scope="module")
def hooked() -> Guard:
    """Return the one guard of this module: an audit hook cannot be removed."""
    guard = Guard(())
    sys.addaudithook(guard.hook)
    return guard


@pytest.fixture
def guard(hooked: Guard, tmp_path: Path, outside: Path) -> Guard:
    hooked.allowed, hooked.violations = (tmp_path / "inside",), []
    return hooked


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_outside_is_prevented_and_recorded(
    guard: Guard, outside: Path, change: Callable[[Path], object]
) -> None:
    with guard.watching(), pytest.raises(PermissionError, match="temporary directory alone"):
        change(outside)
    assert (outside / "file").read_text() == "old"
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert str(outside) in guard.take()[0]


def test_a_change_through_a_link_that_leads_outside_is_prevented(guard: Guard, outside: Path) -> None:
    link = outside.parent / "inside" / "link"
    link.symlink_to(outside)
    with guard.watching(), pytest.raises(PermissionError):
        (link / "file").unlink()
    with guard.watching():
        link.unlink()  # the link itself is inside


def test_reading_outside_and_writing_inside_are_free(guard: Guard, outside: Path) -> None:
    with guard.watching():
        (outside.parent / "inside" / "copy").write_text((outside / "file").read_text())
    assert guard.take() == []


def test_a_unit_test_that_changes_a_file_elsewhere_fails_although_the_code_ignores_the_error(
    tmp_path: Path,
) -> None:
    package = tmp_path / "copy"
    package.mkdir()
    shutil.copy(REPO / "tests/unit/conftest.py", package)
    target = tmp_path / "elsewhere"
    (package / "test_it.py").write_text(
        "import contextlib, pathlib\n"
        "def test_it():\n"
        f"    with contextlib.suppress(OSError):\n        pathlib.Path({str(target)!r}).write_text('x')\n"
        "def test_fine(tmp_path):\n    (tmp_path / 'x').write_text('x')\n"
    )
    words = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", "base", ".")
    done = subprocess.run(
        words,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"changed files outside its temporary directory: open {target}" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert not target.exists()
