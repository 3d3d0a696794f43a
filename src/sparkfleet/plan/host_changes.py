"""The host's own part of the plan: programs, units, directories and declared resources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from sparkfleet import runtimes, zipapp
from sparkfleet.contract.diagnostic import SparkfleetError, combine
from sparkfleet.desired_state import Host
from sparkfleet.onhost.machine import system
from sparkfleet.onhost.state import units
from sparkfleet.plan import render_service, resource_changes
from sparkfleet.plan.model import ChangeSet, Note, Operation, Scope, Step
from sparkfleet.plan.operations import ABSENT, EnableUnit, EnsureDirectory, RemoveDropIn, WriteFile
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.response import RESOURCES

PROGRAM_PATH = system.PROGRAM
VALVE_PATH = "/usr/local/bin/spark-valve"
RECOVER_UNIT = units.RECOVER
UNIT_DIR = "/etc/systemd/system"


@cache
def managed_files() -> tuple[WriteFile, ...]:
    """Return the files of a host with services: programs, the valve as a command, the recovery unit."""
    daemons = dict.fromkeys(unit for name in runtimes.names() for unit in runtimes.get(name).daemon_units)
    recover = units.recover_unit(tuple(daemons)).encode()
    return (
        _file(PROGRAM_PATH, "0755", "programs", zipapp.build()),
        _file(VALVE_PATH, "0755", "valve", units.valve_script().encode()),
        _file(f"{UNIT_DIR}/{RECOVER_UNIT}", "0644", "unit", recover, RECOVER_UNIT),
    )


def _file(path: str, mode: str, role: str, content: bytes, unit: str = "") -> WriteFile:
    return WriteFile(path, mode, role, unit, hashlib.sha256(content).hexdigest(), content)


def watched_paths(host: Host) -> tuple[str, ...]:
    """Return the paths that the probe must observe for this host."""
    # The owner of a directory does not matter to which directories there are, so any user will do here.
    caches = (render_service.cache_directory(host, service) for service in host.services)
    folders = ("/var/lib/sparkfleet", host.paths.models, host.paths.cache, *dict.fromkeys(caches))
    return (*(file.path for file in managed_files()), *folders)


def host_change_set(host: Host, observed: Observed) -> ChangeSet | None:
    """Return the changes of the host itself; None without any, or if nothing is declared."""
    is_known = observed.recorded or RESOURCES in observed.unreadable
    if not (host.services or host.member or host.prepare.resources or is_known):
        return None
    own = (*_files(observed), *_recovery_unit(observed), *_directories(host, observed))
    try:
        resources, notes = resource_changes.operations(host, observed)
        blocked = combine(*resource_changes.diagnostics(host, observed))
    except SparkfleetError as error:
        note = Note(Step.HOST, "unknown", text="changes of resources, since their state cannot be read")
        blocked = error.diagnostic
        return ChangeSet("host", own, notes=(note,), blocked=blocked, scope=Scope.HOST)
    operations = (*own, *resources)
    if not operations:
        return None
    return ChangeSet("host", operations, notes=tuple(notes), blocked=blocked, scope=Scope.HOST)


def programs_change_set(observed: Observed) -> ChangeSet | None:
    """Return the change of the host's programs alone; None if they are those of this version."""
    operations = (*_files(observed), *_recovery_unit(observed))
    return ChangeSet("host", operations, scope=Scope.HOST) if operations else None


def _files(observed: Observed) -> Iterator[Operation]:
    for file in managed_files():
        operation = replace(file, observed=observed.paths.get(file.path, ABSENT))
        if operation.fields():
            yield operation


def _recovery_unit(observed: Observed) -> Iterator[Operation]:
    seen = observed.units.get(RECOVER_UNIT)
    for path in seen.drop_ins if seen else ():
        yield RemoveDropIn(RECOVER_UNIT, path)
    if seen is not None and seen.text is not None and seen.enabled != "enabled":
        yield EnableUnit(RECOVER_UNIT, seen.enabled or "disabled")


def _directories(host: Host, observed: Observed) -> Iterator[Operation]:
    for one in render_service.directories(host, observed.user):
        seen = observed.paths.get(one.path, ABSENT)
        path = observed.user.expand(one.path)
        operation = EnsureDirectory(path, one.path, one.mode, one.user, one.group, seen)
        if (
            seen.kind not in {"link", "broken link"} and operation.fields()
        ):  # a link: the owner moved it to another disk
            yield operation
