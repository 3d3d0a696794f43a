"""Files that are open or mapped in any process: by device and inode, since containers have other paths."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_FIELDS = 5
"""Of a line in /proc/PID/maps, up to the inode."""

Identity = tuple[int, int]


def open_identities(proc: Path = PROC) -> set[Identity]:
    """Return device and inode of every file that any process has open or mapped."""
    found: set[Identity] = set()
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            found |= _open(process / "fd") | mapped_identities((process / "maps").read_text(errors="replace"))
    return found


def mapped_identities(text: str) -> set[Identity]:
    """Return the files in the text of /proc/PID/maps."""
    found = set()
    for line in text.splitlines():
        fields = line.split(maxsplit=_FIELDS)
        if len(fields) < _FIELDS or fields[4] == "0":
            continue
        major, _, minor = fields[3].partition(":")
        found.add((os.makedev(int(major, 16), int(minor, 16)), int(fields[4])))
    return found


def first_open(paths: Iterable[Path], port_owners: set[Identity]) -> Path | None:
    """Return the first of the files, links followed, that a process has open; None for none."""
    for path in paths:
        with contextlib.suppress(OSError):
            info = path.stat()
            if (info.st_dev, info.st_ino) in port_owners:
                return path
    return None


def _open(folder: Path) -> set[Identity]:
    found = set()
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            info = entry.stat()
            found.add((info.st_dev, info.st_ino))
    return found
