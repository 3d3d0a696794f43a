"""Directories: created, or given owner and mode; their contents only where that is declared."""

from __future__ import annotations

import os
import pwd

MAX_ENTRIES = 20000
"""Entries of a directory whose owners are read: more takes noticeable time."""


def observe(host: ObservedHost, path: str, arg: str) -> dict[str, str]:
    """Return a directory, and how many entries in it belong to others than the owner in ``arg``.

    They are counted up to the limit in ``arg``: more is "many".
    """
    observed = host.file(path)
    if observed["is"] == "directory":
        owner, _, limit = arg.partition(" ")
        count = sum(1 for _ in entries_of_others(host.path(path), owner, int(limit or 0)))
        observed["others"] = "many" if count > int(limit or 0) else str(count)
        observed["empty"] = "no" if os.listdir(host.path(path)) else "yes"
    return observed


def entries_of_others(path: str, owner: str, limit: int) -> Iterator[str]:
    """Yield the entries below a directory that are not the owner's, at most one more than ``limit``."""
    try:
        uid = pwd.getpwnam(owner).pw_uid
    except KeyError:
        return
    foreign = count = 0
    for folder, folders, names in os.walk(path):
        if count > MAX_ENTRIES:
            return
        count += len(folders) + len(names)
        for name in folders + names:
            entry = os.path.join(folder, name)
            try:
                differs = os.lstat(entry).st_uid != uid
            except OSError:
                continue
            if differs:
                yield entry
                foreign += 1
                if foreign > limit:
                    return


# --- Only what is above this line is sent with the probe. ---

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sparkfleet.contract import beneath
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files
from sparkfleet.resources.base import (
    LOGIN_USER,
    Declaration,
    Difference,
    Fields,
    FileMode,
    Host,
    HostPath,
    ObservedHost,
    PlanContext,
    Resource,
    ResourceKind,
    Setting,
    Target,
    UserName,
    conflict,
    described,
)

REPORTED = 1000
"""Entries of other owners that are counted where changing their owner is not declared."""


@dataclass(frozen=True)
class DirectorySpec:
    """A directory on the Spark."""

    owner: UserName = described("@login is the user who logs in on the Spark.", LOGIN_USER)
    group: str | None = described(
        "Default: the owner's own for a new directory; otherwise it is not changed.", None
    )
    mode: FileMode = described("In four octal digits.", "0755")
    chown_contents_max: int | None = described(
        "Give the contents to the owner, too, where at most this many entries belong to others. Without it "
        "they are only reported.",
        None,
        ge=1,
    )


class Directory(ResourceKind):
    """A directory."""

    name = "directory"
    order = 80
    labels: ClassVar = {"others": "entries of other owners inside"}
    settings = (
        Setting(
            "directories",
            dict[HostPath, DirectorySpec | None],
            "Path -> owner and mode. For models_dir and cache_dir, too.",
            merged=True,
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return each directory."""
        for path, spec, where in declaration.entries("directories"):
            fields = [("mode", spec.mode), ("owner", spec.owner)]
            fields += [("group", spec.group)] if spec.group else []
            fields += [("others", "0")] if spec.chown_contents_max else []
            arg = f"{spec.owner} {spec.chown_contents_max or REPORTED}"
            yield Resource("directory", path, tuple(fields), arg, where=where)

    def differences(self, resource: Resource, live: Fields, context: PlanContext) -> list[Difference]:
        """Return what differs; nothing of a link: somebody moved the directory to another disk."""
        return [] if live.get("is") == "link" else super().differences(resource, live, context)

    def notes(self, resource: Resource, live: Fields) -> list[Difference]:
        """Return how many entries of others are inside, and what would change that."""
        count, fields = live.get("others", "0"), dict(resource.fields)
        if count == "0" or "others" in fields:
            return []
        number = f"more than {resource.arg.split()[1]}" if count == "many" else count
        hint = f"sudo chown -R {fields['owner']} {resource.key}, or declare 'chown_contents_max:'"
        return [Difference("=", resource.key, new=f"{number} entries of other owners inside", note=hint)]

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return what is in its place, or that too many entries belong to others."""
        del recorded
        if live.get("is", "") not in {"absent", "directory", "link"}:
            return conflict(
                resource, f"{resource.key} is a {live['is']}", "a directory, or nothing", "move it away"
            )
        if live.get("others") != "many" or "others" not in dict(resource.fields):
            return None
        owner, limit = resource.arg.split()
        return conflict(
            resource,
            f"{resource.key} has more than {limit} entries of other owners",
            f"at most {limit}, by 'chown_contents_max:'",
            f"on the Spark: sudo chown -R {owner} {resource.key}; or raise 'chown_contents_max:'",
        )

    def summary(self, resource: Resource) -> str:
        """Return mode, owner and group."""
        fields = dict(resource.fields)
        return " ".join(fields[name] for name in ("mode", "owner", "group") if name in fields)

    def reverted_fields(self, entry: Applied, live: Fields) -> tuple[str, ...]:
        """Return the fields to revert; of a directory that we created all, while it is empty."""
        if entry.before.get("is") == "absent":
            return tuple(entry.applied) if live.get("empty") == "yes" else ()
        return super().reverted_fields(entry, live)

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Return the directories above it that are missing."""
        return host_files.missing_parents(Path(host.path(target.key)))

    def apply(self, host: Host, target: Target) -> None:
        """Create it, or set owner and mode."""
        path = Path(host.path(target.key))
        host_files.make_parents(path)
        path.mkdir(exist_ok=True)
        group = target.fields.get("group", "") or str(target.live.get("group", ""))
        owner = host_files.ids(target.fields["owner"], group)
        if "others" in target.fields:
            _chown_contents(_owners_file(host, target.key), path, target.arg, owner)
        _set(path, owner, target.fields["mode"])

    def revert(self, host: Host, entry: Applied, names: tuple[str, ...]) -> None:
        """Remove one that was created; otherwise restore owner and mode."""
        path, before = Path(host.path(entry.key)), entry.before
        if before["is"] == "absent":
            path.rmdir()
            host_files.remove_parents(before)
            return
        if "others" in names:
            _restore_contents(_owners_file(host, entry.key), path)
        observed = host.file(entry.key)
        owner = before["owner"] if "owner" in names else observed["owner"]
        group = before["group"] if {"owner", "group"} & set(names) else observed["group"]
        mode = before["mode"] if "mode" in names else observed["mode"]
        _set(path, host_files.ids(owner, group), mode)


def _owners_file(host: Host, key: str) -> Path:
    return host.state / host_files.SNAPSHOTS / host_files.owners_name(key)


def _set(path: Path, owner: tuple[int, int], mode: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, int(mode, 8))
    finally:
        os.close(descriptor)


def _chown_contents(owners: Path, path: Path, arg: str, owner: tuple[int, int]) -> None:
    """Give the contents to the owner; the former owners are written to ``owners`` first."""
    name, limit = arg.split()
    found = list(entries_of_others(str(path), name, int(limit)))
    owners.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with owners.open("a", encoding="utf-8") as stream:
        for entry in found:
            info = os.lstat(entry)
            stream.write(json.dumps([entry, info.st_uid, info.st_gid, owner[0]]) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    for entry in found:
        beneath.chown(Path(entry), path, *owner)


def _restore_contents(owners: Path, root: Path) -> None:
    """Give the contents to their former owners, where they still belong to whom we gave them."""
    for line in reversed(owners.read_text(encoding="utf-8").splitlines() if owners.exists() else []):
        path, uid, gid, new_owner = json.loads(line)
        if os.path.lexists(path) and os.lstat(path).st_uid == new_owner:
            beneath.chown(Path(path), root, uid, gid)


KIND = Directory()
