"""Files of a Spark: written atomically with owner and mode, with the directories above them, and restored."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkfleet.resources.base import Fields, Host, ResourceError

SNAPSHOTS = "before"
"""Directory below our state: contents that were replaced, by their SHA-256."""
MAX_BYTES = 1 << 20
"""Bytes of a file that is kept for a revert."""
ROOT = (0, 0)


def write(path: Path, content: bytes, mode: int, owner: tuple[int, int]) -> None:
    """Write a file atomically: it has its owner and mode before it has its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")  # sudo and systemd skip such names
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def ids(user: str, group: str = "") -> tuple[int, int]:
    """Return the ids of a user and a group (default: the user's own)."""
    try:
        entry = pwd.getpwnam(user) if not user.isdigit() else pwd.getpwuid(int(user))
        gid = entry.pw_gid if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        hint = "correct the name, or create it on the Spark"
        raise ResourceError(str(error).strip("\"'"), "an existing user and group", hint) from None
    return entry.pw_uid, gid


def missing_parents(path: Path) -> dict[str, Any]:
    """Return the directories above a path that are missing: ours to remove again."""
    missing, parent = [], path.parent
    while not parent.exists():
        missing.append(str(parent))
        parent = parent.parent
    return {"parents": missing}


def make_parents(path: Path, owner: tuple[int, int] = ROOT, mode: int = 0o755) -> None:
    """Create the directories above a path that are missing."""
    for parent in reversed([one for one in path.parents if not one.exists()]):
        parent.mkdir(mode=mode)
        os.chown(parent, *owner)


def remove_parents(before: Fields) -> None:
    """Remove the directories that were created, the lowest first, as far as they are empty."""
    for parent in before.get("parents", ()):
        try:
            os.rmdir(parent)
        except OSError:
            return


def require_file_or_nothing(live: Fields, path: Path) -> None:
    """Raise ResourceError if there is something else than a file, or one too large for a snapshot."""
    if live["is"] not in {"absent", "file"}:
        raise ResourceError(f"there is a {live['is']}", "a file, or nothing", "move it away")
    if live["is"] == "file" and path.stat().st_size > MAX_BYTES:
        raise ResourceError("the present file is too large for a snapshot", "at most 1 MiB", "move it away")


def keep_content(host: Host, path: Path) -> dict[str, Any]:
    """Copy a file's content to our state, where there is a file."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    name = hashlib.sha256(content).hexdigest()
    folder = host.state / SNAPSHOTS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / name).exists():
        write(folder / name, content, 0o600, (os.geteuid(), os.getegid()))
    return {"content": name}


def restore(host: Host, path: Path, before: Fields) -> None:
    """Write the file of before, or remove the one that was not there before."""
    if before["is"] == "absent":
        path.unlink(missing_ok=True)
        remove_parents(before)
        return
    content = (host.state / SNAPSHOTS / before["content"]).read_bytes()
    write(path, content, int(before["mode"], 8), ids(before["owner"], before["group"]))


def owners_name(path: str) -> str:
    """Return the name of the file that lists the former owners of a directory's entries."""
    return f"{hashlib.sha256(path.encode()).hexdigest()}.owners"


def remove_unused_snapshots(host: Host, entries: Mapping[str, Any]) -> None:
    """Remove kept contents that no recorded resource needs."""
    needed = {
        name for entry in entries.values() for name in (entry.before.get("content"), owners_name(entry.key))
    }
    folder = host.state / SNAPSHOTS
    for path in folder.glob("*"):
        if path.name not in needed:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def effective_owner() -> tuple[int, int]:
    """Return user and group of this process: root on a Spark."""
    return os.geteuid(), os.getegid()
