"""Files and directories: tested, put in place whole, taken back to what was there before."""

from __future__ import annotations

import base64
import grp
import hashlib
import os
import pwd
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources import validators
from sparkfleet.onhost.resources.base import RefusedError, Thing
from sparkfleet.onhost.state.units import MARK

KEPT = "before"
"""Directory of our state: contents that were replaced, by their SHA-256."""
MOST_BYTES = 1 << 20
"""Bytes of a file that is kept."""
CACHE_NAME = re.compile(r"[0-9a-f]{12}")


def write(path: Path, content: bytes, mode: int, owner: tuple[int, int]) -> None:
    """Put a file in place whole: it has its owner and mode before it has its name."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")  # sudo and systemd skip such names
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    files.sync_directory(path.parent)


def ids(user: str, group: str = "") -> tuple[int, int]:
    """Return the ids of a user and a group (default: the user's own)."""
    try:
        entry = pwd.getpwnam(user) if not user.isdigit() else pwd.getpwuid(int(user))
        gid = entry.pw_gid if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        remedy = "mend the name, or make it on the Spark"
        raise RefusedError(str(error).strip("\"'"), "a user and a group that are there", remedy) from None
    return entry.pw_uid, gid


def new_parents(_: System, thing: Thing) -> dict[str, Any]:
    """Return the directories above that will have to be made: ours to remove again."""
    missing, path = [], Path(thing.key).parent
    while not path.exists():
        missing.append(str(path))
        path = path.parent
    return {"parents": missing}


def make_parents(path: Path, owner: tuple[int, int] = (0, 0), mode: int = 0o755) -> None:
    """Make the directories above a path that are missing."""
    for parent in reversed([one for one in path.parents if not one.exists()]):
        parent.mkdir(mode=mode)
        os.chown(parent, *owner)


def remove_parents(before: Mapping[str, Any]) -> None:
    """Remove the directories that were made, the lowest first, as far as they are empty."""
    for parent in before.get("parents", ()):
        try:
            os.rmdir(parent)
        except OSError:
            return


# files


def check_file(system: System, thing: Thing) -> None:
    """Refuse what the system's own program for such a file would not read."""
    ids(thing.want["owner"], thing.want.get("group", ""))
    _refuse_other(thing)
    validators.check(system, Path(thing.key), _content(thing))


def _refuse_other(thing: Thing) -> None:
    there = thing.live["is"]
    if there not in {"absent", "file"}:
        raise RefusedError(f"there is a {there}", "a file, or nothing", "move it away by hand")
    if there == "file" and os.path.getsize(thing.key) > MOST_BYTES:
        raise RefusedError("the file there is too large to be kept", "at most 1 MiB", "move it away by hand")


def _content(thing: Thing) -> bytes:
    return base64.b64decode(thing.content)


def keep_file(system: System, thing: Thing) -> dict[str, Any]:
    """Keep the content that will be replaced."""
    return {**_keep(system, Path(thing.key)), **new_parents(system, thing)}


def _keep(system: System, path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = path.read_bytes()
    name = hashlib.sha256(content).hexdigest()
    folder = system.paths.state / KEPT
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / name).exists():
        write(folder / name, content, 0o600, (os.geteuid(), os.getegid()))
    return {"content": name}


def owners(path: str) -> str:
    """Return the name of the file that tells whose the entries of a directory were."""
    return f"{hashlib.sha256(path.encode()).hexdigest()}.owners"


def forget_content(system: System, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Remove kept contents that nothing on record needs."""
    needed = {
        name for entry in items.values() for name in (entry["before"].get("content"), owners(entry["key"]))
    }
    folder = system.paths.state / KEPT
    for path in folder.glob("*"):
        if path.name not in needed:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def put_file(system: System, thing: Thing) -> None:
    """Put a file in place; systemd reads its units anew."""
    path = Path(thing.key)
    make_parents(path)
    write(path, _content(thing), int(thing.want["mode"], 8), _owner(thing))
    validators.tell(system, path)


def _owner(thing: Thing) -> tuple[int, int]:
    return ids(thing.want["owner"], thing.want.get("group", ""))


def back_file(system: System, entry: Mapping[str, Any], _: tuple[str, ...]) -> None:
    """Put back what was there, or nothing."""
    path, before = Path(entry["key"]), entry["before"]
    _restore(system, path, before)
    validators.tell(system, path)


def _restore(system: System, path: Path, before: Mapping[str, Any]) -> None:
    if before["is"] == "absent":
        path.unlink(missing_ok=True)
        remove_parents(before)
        return
    content = (system.paths.state / KEPT / before["content"]).read_bytes()
    write(path, content, int(before["mode"], 8), ids(before["owner"], before["group"]))


# sudoers: the rule of a user of the valve


def _rule(thing: Thing) -> bytes:
    return f"{MARK}\n{thing.want['rule']}\n".encode()


def check_sudoers(system: System, thing: Thing) -> None:
    """Refuse a rule that sudo would not take, alone or with all others."""
    ids(thing.key)
    _refuse_other(Thing("file", resources.sudoers_path(thing.key), "", {}, thing.live))
    validators.check(system, Path(resources.sudoers_path(thing.key)), _rule(thing))


def keep_sudoers(system: System, thing: Thing) -> dict[str, Any]:
    """Keep a rule that was there before."""
    return _keep(system, Path(resources.sudoers_path(thing.key)))


def put_sudoers(_: System, thing: Thing) -> None:
    """Put the rule in place."""
    write(Path(resources.sudoers_path(thing.key)), _rule(thing), 0o440, (0, 0))


def back_sudoers(system: System, entry: Mapping[str, Any], _: tuple[str, ...]) -> None:
    """Put back what was there, or nothing."""
    _restore(system, Path(resources.sudoers_path(entry["key"])), entry["before"])


def remove_cache(path: str) -> str:
    """Remove an old compile cache; refuse what has not the name of one, or is needed."""
    if not CACHE_NAME.fullmatch(os.path.basename(path)) or os.path.islink(path):
        raise RefusedError(f"{path} is no compile cache", about=f"caches {path}")
    if path in resources.used_caches():
        raise RefusedError(f"{path} is in use", remedy="run again", about=f"caches {path}")
    shutil.rmtree(path)
    return f"caches {path}"
