"""Makes declared things so on this Spark, and takes back what is no longer declared.

Nothing is changed before everything that is asked for was tested. What was there before is on record before
it is changed: a run that is killed in between leaves a Spark that the next run puts right.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources import directories, gpu, packages, revert
from sparkfleet.onhost.resources import files as prepare_files
from sparkfleet.onhost.resources import secrets as prepare_secrets
from sparkfleet.onhost.resources import system as prepare_system
from sparkfleet.onhost.resources.base import RefusedError, Thing
from sparkfleet.onhost.state import store

RECORD = "prepared.json"


@dataclass(frozen=True)
class Kind:
    """How things of a kind are handled. ``check`` and ``put`` raise RefusedError."""

    put: Callable[[System, Thing], None]
    back: Callable[[System, Mapping[str, Any], tuple[str, ...]], None]
    check: Callable[[System, Thing], None] = lambda *_: None
    before: Callable[[System, Thing], dict[str, Any]] = lambda *_: {}
    """What is kept beside the fields, so that the thing can be taken back."""


KINDS: dict[str, Kind] = {
    "directory": Kind(directories.put, directories.back, before=prepare_files.new_parents),
    "file": Kind(
        prepare_files.put_file, prepare_files.back_file, prepare_files.check_file, prepare_files.keep_file
    ),
    "gpu": Kind(gpu.put, gpu.back, gpu.check, gpu.now),
    "group": Kind(prepare_system.put_group, prepare_system.back_group),
    "hold": Kind(packages.put_hold, packages.back_hold),
    "login": Kind(
        prepare_secrets.put_login,
        prepare_secrets.back_login,
        prepare_secrets.check_login,
        prepare_secrets.before_login,
    ),
    "package": Kind(
        packages.put_package,
        packages.back_package,
        packages.check_package,
        packages.what_comes_with,
    ),
    "service": Kind(prepare_system.put_service, prepare_system.back_service),
    "sudoers": Kind(
        prepare_files.put_sudoers,
        prepare_files.back_sudoers,
        prepare_files.check_sudoers,
        prepare_files.keep_sudoers,
    ),
    "swap": Kind(prepare_system.put_swap, prepare_system.back_swap),
    "sysctl": Kind(prepare_system.put_sysctl, prepare_system.back_sysctl, prepare_system.check_sysctl),
    "token": Kind(prepare_secrets.put_token, prepare_secrets.back_token, before=prepare_files.new_parents),
}


class Record:
    """What runs put on this Spark, with what was there before; on disk before anything is changed."""

    def __init__(self, state: Path) -> None:
        """Read it."""
        self.path = state / RECORD
        data = files.read_json(self.path) or {}
        self.salt: str = data.get("salt") or secrets.token_hex(16)
        self.items: dict[str, dict[str, Any]] = data.get("items", {})

    def write(self) -> None:
        """Write it, for root alone."""
        files.write_json(self.path, {"schema": 1, "salt": self.salt, "items": self.items}, 0o600)


def carry_out(system: System, request: Mapping[str, Any]) -> dict[str, Any]:
    """Carry a request out; return what was done, or what was refused (then nothing was changed)."""
    if store.unfinished(system.paths.state):
        raise store.BusyError("a change of a service is in progress on this Spark")
    with store.lock(system.paths.state):
        record = Record(system.paths.state)
        record.write()  # the salt, before the first secret is looked at
        refused = _refusals(system, _things(request))
        if refused:
            return {"refused": refused}
        done: list[str] = []
        try:
            for name in reversed(request.get("take_back", ())):
                _take_back(system, record, name, request.get("stays", ()))
                done.append(name)
            for one in _things(request):  # how they are by now is what they go back to
                _put(system, record, one)
                done.append(one.id)
            caches = [prepare_files.remove_cache(path) for path in request.get("caches", ())]
        except RefusedError as error:
            return {"done": done, "refused": [error.words(error.about)]}
        return {"done": [*done, *caches], "refused": []}


def _things(request: Mapping[str, Any]) -> list[Thing]:
    return [thing(asked) for asked in request.get("put", ())]


def thing(asked: Mapping[str, Any]) -> Thing:
    """Return what is asked for, with how it is now."""
    kind, key, arg = str(asked["kind"]), str(asked["key"]), str(asked.get("arg", ""))
    if kind not in KINDS:
        raise ValueError(f"no kind {kind!r}")
    return Thing(
        kind,
        key,
        arg,
        dict(asked["want"]),
        resources.LOOKS[kind](key, arg),
        content=str(asked.get("content", "")),
        secret=str(asked.get("secret", "")),
        user=str(asked.get("user", "")),
    )


def _refusals(system: System, things: list[Thing]) -> list[dict[str, str]]:
    found = []
    for one in things:
        try:
            KINDS[one.kind].check(system, one)
        except RefusedError as error:
            found.append(error.words(one.id))
    return found


def _put(system: System, record: Record, one: Thing) -> None:
    kind = KINDS[one.kind]
    entry = record.items.get(one.id)
    if entry is None:
        # What was so already was put by somebody else: only what differs is ours to take back.
        before = {**one.live, **kind.before(system, one)}
        entry = {"kind": one.kind, "key": one.key, "arg": one.arg, "before": before}
    entry["put"], entry["arg"] = {**entry.get("put", {}), **one.want}, one.arg
    record.items[one.id] = entry
    record.write()
    try:
        kind.put(system, replace(one, before=entry["before"]))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise RefusedError(f"{where}{error.strerror or error}", about=one.id) from error
    except RefusedError as error:
        error.about = error.about or one.id
        raise
    now = resources.LOOKS[one.kind](one.key, one.arg)
    wrong = [name for name, value in one.want.items() if name != "secret" and now.get(name, "") != value]
    if wrong:
        seen = ", ".join(f"{name} is {now.get(name, '')!r}" for name in wrong)
        raise RefusedError(f"it did not take: {seen}", about=one.id)
    if "hash" in now:
        entry["put"]["hash"] = now["hash"]
        record.write()


def _take_back(system: System, record: Record, name: str, stays: Sequence[str]) -> None:
    entry = record.items.get(name)
    if entry is None:
        return
    record.items |= packages.passed_on(entry, stays)
    live = resources.LOOKS[entry["kind"]](entry["key"], entry["arg"])
    fields = revert.fields(entry, live)
    try:
        if fields:
            KINDS[entry["kind"]].back(system, entry, fields)
    except OSError as error:
        raise RefusedError(f"{error.filename or ''}: {error.strerror or error}", about=name) from error
    except RefusedError as error:
        error.about = name
        raise
    del record.items[name]
    record.write()
    prepare_files.forget_content(system, record.items)
    if not record.items:
        os.sync()
