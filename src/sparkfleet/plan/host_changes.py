"""The host's own part of the plan: programs, units and directories that every service stands on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from sparkfleet import zipapp
from sparkfleet.config.resolved import Host
from sparkfleet.contract.diagnostic import combine
from sparkfleet.onhost.machine import system
from sparkfleet.onhost.state import units
from sparkfleet.plan import desired, resource_changes
from sparkfleet.plan.model import Change, Entry, Sign, Step, Verb
from sparkfleet.probe.observed import Observed, PathSeen, UnitSeen

PROGRAM_PATH = system.PROGRAM
PROGRAMS = "programs"
"""Field of our programs in the plan."""
VALVE_PATH = "/usr/local/bin/spark-valve"
RECOVER_UNIT = units.RECOVER
UNIT_DIR = "/etc/systemd/system"


@dataclass(frozen=True)
class ManagedFile:
    """A file of ours on the Spark, owned by root."""

    path: str
    content: bytes
    mode: str
    kind: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content in hex."""
        return hashlib.sha256(self.content).hexdigest()


@cache
def managed_files() -> tuple[ManagedFile, ...]:
    """Return the files that a Spark with services has: the programs, the valve by hand, the unit for
    recovery.
    """
    return (
        ManagedFile(PROGRAM_PATH, zipapp.build(), "0755", PROGRAMS),
        ManagedFile(VALVE_PATH, units.valve_script().encode(), "0755", "valve"),
        ManagedFile(f"{UNIT_DIR}/{RECOVER_UNIT}", units.recover_unit().encode(), "0644", "unit"),
    )


def watched_paths(host: Host) -> tuple[str, ...]:
    """Return the paths that the probe must look at for this host."""
    # The owner of a directory does not matter to which directories there are, so any user will do here.
    caches = (desired.cache_directory(host, service) for service in host.services)
    folders = ("/var/lib/sparkfleet", host.paths.models, host.paths.cache, *dict.fromkeys(caches))
    return (*(file.path for file in managed_files()), *folders)


def host_entry(host: Host, observed: Observed) -> Entry | None:
    """Return what a run changes on the host itself; None when nothing differs or nothing is declared."""
    if not (host.services or host.member or host.prepare.items or observed.recorded):
        return None
    changes = [
        *(change for file in managed_files() for change in _file_changes(file, observed.paths)),
        *_recover_changes(observed.units),
        *(
            change
            for directory in desired.directories(host, observed.user)
            for change in _directory_changes(
                directory, observed.paths.get(directory.path, PathSeen("absent"))
            )
        ),
        *resource_changes.changes(host, observed),
    ]
    if not changes:
        return None
    blocked = combine(*resource_changes.diagnostics(host, observed))
    return Entry("host", Verb.PREPARE, tuple(changes), blocked=blocked)


def _file_changes(file: ManagedFile, paths: Mapping[str, PathSeen]) -> list[Change]:
    seen = paths.get(file.path, PathSeen("absent"))
    if seen.kind == "absent":
        return [Change(Step.HOST, Sign.ADD, file.kind, file.path)]
    if seen.kind != "file":
        return [Change(Step.HOST, Sign.CHANGE, file.kind, file.path, old=f"a {seen.kind}", new="our file")]
    changes = []
    if seen.sha256 != file.sha256:
        changes.append(
            Change(
                Step.HOST,
                Sign.CHANGE,
                file.kind,
                file.path,
                old=seen.sha256[:12],
                new=file.sha256[:12],
                note="content",
            )
        )
    if (seen.mode, seen.user) != (file.mode, "root"):
        changes.append(
            Change(
                Step.HOST, Sign.CHANGE, file.kind, file.path, f"{seen.mode} {seen.user}", f"{file.mode} root"
            )
        )
    return changes


def _recover_changes(units_seen: Mapping[str, UnitSeen]) -> list[Change]:
    seen = units_seen.get(RECOVER_UNIT)
    changes = [Change(Step.HOST, Sign.REMOVE, "drop-in", path) for path in (seen.drop_ins if seen else ())]
    if seen is not None and seen.text is not None and seen.enabled != "enabled":
        changes.append(
            Change(
                Step.HOST, Sign.CHANGE, "unit", RECOVER_UNIT, old=seen.enabled or "disabled", new="enabled"
            )
        )
    return changes


def _directory_changes(wanted: desired.Directory, seen: PathSeen) -> list[Change]:
    owner = f"{wanted.user}:{wanted.group}"
    if seen.kind == "absent":
        return [Change(Step.HOST, Sign.ADD, "directory", wanted.path, new=f"{wanted.mode} {owner}")]
    if seen.kind not in {"directory", "link"}:
        return [
            Change(Step.HOST, Sign.CHANGE, "directory", wanted.path, old=f"a {seen.kind}", new="a directory")
        ]
    if seen.kind == "link":
        return []  # somebody put the directory on another disk: theirs to own
    changes = []
    if (seen.user, seen.group) != (wanted.user, wanted.group):
        changes.append(
            Change(Step.HOST, Sign.CHANGE, "owner", wanted.path, old=f"{seen.user}:{seen.group}", new=owner)
        )
    if seen.mode != wanted.mode:
        changes.append(Change(Step.HOST, Sign.CHANGE, "mode", wanted.path, old=seen.mode, new=wanted.mode))
    return changes
