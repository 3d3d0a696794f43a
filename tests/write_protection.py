"""Detects file changes outside the directories that a test may write to.

It sees this process alone: a program that a test starts may write where its user may. A mount namespace would
prevent that, and needs root.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
CACHES = (".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".venv")
"""Ignored directories of the checkout that tools write to while tests run."""

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

PATH_ARGUMENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.chflags": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.removexattr": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.setxattr": ((0, None),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
}
"""Audit event: the positions of each changed path and of the directory descriptor it is relative to."""


WITHOUT_EVENT = ("mkfifo", "mknod")
"""Functions of ``os`` that make a file and raise no audit event."""


class OutsideError(PermissionError):
    """A test tried to change a file outside its temporary directory; the change was prevented."""


@dataclass
class WriteProtection:
    """Prevents and records changes outside ``allowed`` while it is active."""

    allowed: tuple[Path, ...]
    violations: list[str] = field(default_factory=list)
    active: bool = False

    def hook(self, event: str, args: tuple[object, ...]) -> None:
        """Check one audit event (``sys.addaudithook``)."""
        if not self.active:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITES:
                self._check(event, path, None)
        elif event == "sqlite3.connect":
            if args[0] not in {":memory:", b":memory:", ""}:
                self._check(event, args[0], None)
        elif event == "socket.bind":
            # Other families have tuples; the abstract namespace, which begins with a 0 byte, has no files.
            address = args[1]
            if isinstance(address, str | bytes) and address and address[0] not in {"\0", 0}:
                self._check(event, address, None)
        elif event in PATH_ARGUMENTS:
            for position, directory in PATH_ARGUMENTS[event]:
                self._check(event, args[position], None if directory is None else args[directory])

    def wrap(self, name: str) -> None:
        """Check calls of a function of ``os`` that raises no audit event."""
        function = getattr(os, name)

        def checked(path: object, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> object:
            if self.active:
                self._check(f"os.{name}", path, dir_fd)
            return function(path, *args, dir_fd=dir_fd, **kwargs)

        setattr(os, name, checked)

    def _check(self, event: str, path: object, directory: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor: its open() was checked
        text = os.fsdecode(path)
        if isinstance(directory, int) and directory >= 0 and not text.startswith("/"):
            text = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), text)  # noqa: PTH115, PTH118
        if not self.permits(text, follow=event == "open"):
            self.violations.append(f"{event} {text}")
            raise OutsideError(1, "this test may change files in its temporary directory alone", text)

    def permits(self, text: str, *, follow: bool) -> bool:
        """Return whether a test may change this path; ``follow`` resolves a symlink at its end, too."""
        head, tail = os.path.split(os.path.abspath(text))  # noqa: PTH100  (hot path)
        real = os.path.realpath(text) if follow else os.path.join(os.path.realpath(head), tail)  # noqa: PTH118
        parts = Path(real).parts
        return "__pycache__" in parts or any(Path(real).is_relative_to(root) for root in self.allowed)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Be active in this block."""
        self.active = True
        try:
            yield
        finally:
            self.active = False

    def take(self) -> list[str]:
        """Return the violations since the last call."""
        found, self.violations = self.violations, []
        return found


def install(temporary: Path) -> WriteProtection:
    """Permit writes to ``temporary``, /dev and the caches alone; ``tempfile`` uses ``temporary``, too."""
    temporary = temporary.resolve()
    tempfile.tempdir = str(temporary)
    protection = WriteProtection((temporary, Path("/dev"), *(REPO / name for name in CACHES)))
    sys.addaudithook(protection.hook)
    for name in WITHOUT_EVENT:
        protection.wrap(name)
    return protection
