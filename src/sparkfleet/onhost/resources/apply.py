"""Applies declared resources on this Spark, and reverts those that are no longer declared.

Nothing is changed before every requested resource has been checked. What was there before is on record before
it is changed: a run that is killed in between leaves a Spark that the next run completes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import (
    Applied,
    ResourceRequest,
    ResourceResult,
    ResourceToApply,
)
from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources.access import HostAccess
from sparkfleet.onhost.resources.record import Record
from sparkfleet.onhost.state import store
from sparkfleet.resources import host_files, registry
from sparkfleet.resources.base import Fields, ResourceError, Target

FAILED = "host-change-failed"
"""Code: a change did not succeed, or had no effect."""


def run(system: System, request: ResourceRequest, root: str = "") -> ResourceResult:
    """Carry out the request of the operator's machine."""
    return apply(HostAccess(system, root), request)


def apply(host: HostAccess, request: ResourceRequest) -> ResourceResult:
    """Carry a request out. Where a check refuses, nothing has been changed."""
    if store.unfinished(host.state):
        raise store.BusyError("a change of a service is in progress on this Spark")
    with store.lock(host.state):
        record = Record(host.state)
        record.write()  # the salt, before the first secret is observed
        refused = _check(host, [_target(host, one) for one in request.apply])
        if refused:
            return ResourceResult(refused=refused)
        ids: list[str] = []
        try:
            for name in reversed(request.revert):
                _revert(host, record, name, request.declared)
                ids.append(name)
            for one in request.apply:  # observed again: a revert may have changed it
                target = _target(host, one)
                _apply(host, record, target)
                ids.append(target.id)
        except ResourceError as error:
            return ResourceResult(tuple(ids), (error.diagnostic,))
        return ResourceResult(tuple(ids))


def _target(host: HostAccess, one: ResourceToApply) -> Target:
    registry.kind(one.kind)
    live = resources.observe(host, one.kind, one.key, one.arg)
    return Target(**vars(one), live=live)


def _check(host: HostAccess, targets: Sequence[Target]) -> tuple[Diagnostic, ...]:
    refused = []
    for target in targets:
        try:
            registry.kind(target.kind).check(host, target)
        except ResourceError as error:
            refused.append(replace(error.diagnostic, location=target.id))
    return tuple(refused)


def _apply(host: HostAccess, record: Record, target: Target) -> None:
    kind = registry.kind(target.kind)
    before: Fields = {}
    if kind.recorded:
        entry = record.entries.get(target.id)
        if entry is None:
            # What was so already is somebody else's: only what differs is ours to revert.
            snapshot = {**target.live, **kind.snapshot(host, target)}
            entry = Applied(target.kind, target.key, target.arg, snapshot, {})
        entry.applied, entry.arg = {**entry.applied, **target.fields}, target.arg
        record.entries[target.id] = entry
        record.write()
        before = entry.before
    try:
        kind.apply(host, replace(target, before=before))
    except (OSError, ResourceError) as error:
        raise _about(error, target.id) from error
    if kind.recorded:
        _verify(host, record, target)


def _verify(host: HostAccess, record: Record, target: Target) -> None:
    now = resources.observe(host, target.kind, target.key, target.arg)
    wrong = [name for name, value in target.fields.items() if name != "secret" and now.get(name, "") != value]
    if wrong:
        seen = ", ".join(f"{name} is {now.get(name, '')!r}" for name in wrong)
        hint = "see what else sets it on this Spark, then run again"
        raise ResourceError(f"it had no effect: {seen}", "", hint, target.id, code=FAILED)
    if "hash" in now:
        record.entries[target.id].applied["hash"] = now["hash"]
        record.write()


def _about(error: OSError | ResourceError, about: str) -> ResourceError:
    if isinstance(error, ResourceError):
        one = error.diagnostic
        return ResourceError(one.message, one.expected, one.hint, about, code=one.code)
    where = f"{error.filename}: " if error.filename else ""
    return ResourceError(f"{where}{error.strerror or error}", "", "run again", about, code=FAILED)


def _revert(host: HostAccess, record: Record, name: str, declared: Sequence[str]) -> None:
    entry = record.entries.get(name)
    if entry is None:
        return
    kind = registry.kind(entry.kind)
    for part in kind.split(entry, declared):
        record.entries[f"{part.kind} {part.key}"] = part
    live = resources.observe(host, entry.kind, entry.key, entry.arg)
    names = kind.reverted_fields(entry, live)
    try:
        if names:
            kind.revert(host, entry, names)
    except (OSError, ResourceError) as error:
        raise _about(error, name) from error
    del record.entries[name]
    record.write()
    host_files.remove_unused_snapshots(host, record.entries)
    if not record.entries:
        os.sync()
