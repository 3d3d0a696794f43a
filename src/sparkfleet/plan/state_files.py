"""Files of a host's state directory that cannot be read: what depends on one is blocked, all else goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic, Severity, combine
from sparkfleet.plan.model import ChangeSet, Note, Operation, Step
from sparkfleet.plan.operations import RolloutOperation
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.response import STAGED, VERIFIED


def unknown_service(
    name: str, fetches: tuple[Operation, ...], unreadable: Diagnostic, cluster: str
) -> ChangeSet:
    """Return the change set of a service whose record cannot be read: what it would change is unknown."""
    note = Note(Step.SERVICE, "unknown", text="changes of the service, since its record cannot be read")
    return ChangeSet(name, fetches, notes=(note,), blocked=unreadable, cluster=cluster)


def blocked(change_set: ChangeSet, observed: Observed) -> ChangeSet:
    """Return a service's changes, blocked if they use or replace a state file that cannot be read.

    A fetch writes the records of fetched and of hashed files. A rollout replaces records of services.
    """
    fetches = change_set.of_step(Step.IMAGE) or change_set.of_step(Step.WEIGHTS)
    files = [observed.unreadable.get(name) for name in (STAGED, VERIFIED)] if fetches else []
    replaced = {
        name for one in change_set.operations if isinstance(one, RolloutOperation) for name in one.replaces
    }
    records = [observed.unreadable_record(name) for name in sorted(replaced)]
    return replace(change_set, blocked=combine(change_set.blocked, *files, *records))


def warnings(observed: Observed, change_sets: Iterable[ChangeSet]) -> tuple[Diagnostic, ...]:
    """Return the state files that cannot be read and that block nothing."""
    named = {one for change_set in change_sets if change_set.blocked for one in change_set.blocked.each}
    left = (one for one in observed.unreadable.values() if one not in named)
    return tuple(replace(one, severity=Severity.WARNING) for one in left)
