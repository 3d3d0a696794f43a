"""The write protection of tests/unit/conftest.py: a unit test writes only to its temporary directory."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.write_protection import REPO, WITHOUT_EVENT, WriteProtection


def bind(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path)


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
    "makes a pipe": lambda path: os.mkfifo(path / "pipe"),
    "makes a node": lambda path: os.mknod(path / "node"),
    "creates a database": lambda path: sqlite3.connect(path / "db"),
    "binds a socket": lambda path: bind(os.path.relpath(path / "socket")),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a directory with a file that the write protection does not allow."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("old")
    (tmp_path / "inside").mkdir()
    return path


@pytest.fixture(scope="module")
def hooked() -> Iterator[WriteProtection]:
    """Return the one write protection of this module: an audit hook cannot be removed."""
    protection = WriteProtection(())
    sys.addaudithook(protection.hook)
    before = {name: getattr(os, name) for name in WITHOUT_EVENT}
    for name in WITHOUT_EVENT:
        protection.wrap(name)
    yield protection
    for name, function in before.items():
        setattr(os, name, function)


@pytest.fixture
def protection(hooked: WriteProtection, tmp_path: Path, outside: Path) -> WriteProtection:
    hooked.allowed, hooked.violations = (tmp_path / "inside",), []
    return hooked


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_outside_is_prevented_and_recorded(
    protection: WriteProtection, outside: Path, change: Callable[[Path], object]
) -> None:
    with protection.watching(), pytest.raises(PermissionError, match="temporary directory alone"):
        change(outside)
    assert (outside / "file").read_text() == "old"
    assert [path.name for path in outside.iterdir()] == ["file"]
    _, _, path = protection.take()[0].partition(" ")
    assert Path(os.path.abspath(path)).is_relative_to(outside)  # noqa: PTH100  (a socket's is relative)


def test_a_change_through_a_link_that_leads_outside_is_prevented(
    protection: WriteProtection, outside: Path
) -> None:
    link = outside.parent / "inside" / "link"
    link.symlink_to(outside)
    with protection.watching(), pytest.raises(PermissionError):
        (link / "file").unlink()
    with protection.watching():
        link.unlink()  # the link itself is inside


def test_reading_outside_and_writing_inside_are_free(protection: WriteProtection, outside: Path) -> None:
    with protection.watching():
        (outside.parent / "inside" / "copy").write_text((outside / "file").read_text())
    assert protection.take() == []


def test_a_unit_test_that_changes_a_file_outside_its_directory_fails_although_the_code_ignores_the_error(
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
    argv = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", "base", ".")
    done = subprocess.run(
        argv,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"changed files outside its temporary directory: open {target}" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert not target.exists()
