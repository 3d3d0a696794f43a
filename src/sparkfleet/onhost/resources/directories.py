"""Directories: made, or given owner and mode, and what is inside only where that is declared; taken back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources.base import Thing
from sparkfleet.onhost.resources.files import KEPT, ids, make_parents, owners, remove_parents


def put(system: System, thing: Thing) -> None:
    """Make a directory, or give it owner and mode; what is inside only where that is asked for."""
    path = Path(thing.key)
    make_parents(path)
    path.mkdir(exist_ok=True)
    owner = ids(thing.want["owner"], thing.want.get("group", "") or str(thing.live.get("group", "")))
    if "others" in thing.want:
        _give(system.paths.state / KEPT / owners(thing.key), thing, owner)
    _set(path, owner, thing.want["mode"])


def _set(path: Path, owner: tuple[int, int], mode: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, int(mode, 8))
    finally:
        os.close(descriptor)


def _give(book: Path, thing: Thing, owner: tuple[int, int]) -> None:
    """Give what is inside to the owner; whose it was is written down before."""
    name, limit = thing.arg.split()
    found = list(resources.foreign(thing.key, name, int(limit)))
    book.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with book.open("a", encoding="utf-8") as stream:
        for path in found:
            info = os.lstat(path)
            stream.write(json.dumps([path, info.st_uid, info.st_gid, owner[0]]) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    for path in found:
        os.chown(path, *owner, follow_symlinks=False)


def _give_back(book: Path) -> None:
    """Give what is inside back to whom it was taken from, as far as it is still whose it was given to."""
    for line in reversed(book.read_text(encoding="utf-8").splitlines() if book.exists() else []):
        path, uid, gid, given = json.loads(line)
        if os.path.lexists(path) and os.lstat(path).st_uid == given:
            os.chown(path, uid, gid, follow_symlinks=False)


def back(system: System, entry: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    """Remove a directory that was made and is empty; else give it owner and mode of before."""
    path, before = Path(entry["key"]), entry["before"]
    if before["is"] == "absent":
        path.rmdir()
        remove_parents(before)
        return
    if "others" in fields:
        _give_back(system.paths.state / KEPT / owners(entry["key"]))
    seen = resources.file(entry["key"])
    owner = before["owner"] if "owner" in fields else seen["owner"]
    group = before["group"] if {"owner", "group"} & set(fields) else seen["group"]
    _set(path, ids(owner, group), before["mode"] if "mode" in fields else seen["mode"])
