"""Declared resources against observed ones: operations with their differences, and blockers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparkfleet.config.resolved import Host
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.onhost.collectors import resources
from sparkfleet.plan import desired
from sparkfleet.plan.model import Action, FieldChange, Note, Operation, Step
from sparkfleet.plan.operations import ApplyResource, RevertResource
from sparkfleet.probe.command import ProbeRequest
from sparkfleet.probe.observed import Observed, User
from sparkfleet.resources import registry
from sparkfleet.resources.base import Applied, Difference, PlanContext, Resource

_ACTIONS = {"+": Action.ADD, "~": Action.CHANGE, "-": Action.REMOVE}


def to_observe(host: Host) -> tuple[tuple[str, str, str], ...] | None:
    """Return what the probe must observe; None when no resource is declared."""
    found = tuple((one.kind, one.key, one.arg) for one in host.prepare.resources)
    return found or None


def undeclared_kinds(sent: ProbeRequest, seen: Observed) -> tuple[str, ...]:
    """Return the kinds of resources on record that a probe did not observe."""
    recorded = (name.partition(" ")[0] for name in seen.recorded)
    kinds = {resources.RENAMED_KINDS.get(kind, kind) for kind in recorded}
    return tuple(sorted(kinds - set(sent.kinds)))


def declared(host: Host, user: User) -> tuple[Resource, ...]:
    """Return the declared resources, with the login user's name and home filled in."""

    def expanded(text: str) -> str:
        return resources.expand(text, user.name, user.home)

    return tuple(
        replace(
            one,
            key=expanded(one.key),
            arg=expanded(one.arg),
            fields=tuple((name, expanded(value)) for name, value in one.fields),
        )
        for one in host.prepare.resources
    )


def operations(host: Host, observed: Observed) -> tuple[list[Operation], list[Note]]:
    """Return what a run applies, what it reverts since it is no longer declared, and the notes on them.

    Raise SparkfleetError when something could not be observed.
    """
    _require_observed(host, observed)
    names = (desired.cache_directory(host, service).rsplit("/", 1)[-1] for service in host.services)
    context, resources = PlanContext(frozenset(names)), declared(host, observed.user)
    found: list[Operation] = []
    for resource in resources:
        kind = registry.kind(resource.kind)
        differences = kind.differences(resource, observed.items.live[resource.id], context)
        if differences:
            planned, changes = kind.planned(resource, differences), _changes(resource.kind, differences)
            found.append(ApplyResource(resource.kind, resource.key, planned, changes=changes))
    ids = {resource.id for resource in resources}
    for name, recorded in observed.items.record.items():
        if name not in ids:
            entry = Applied(**recorded)
            differences = registry.kind(entry.kind).reverted_differences(entry, observed.items.live[name])
            found.append(RevertResource(entry.kind, entry.key, changes=_changes(entry.kind, differences)))
    return found, _notes(resources, observed) if found else []


def _changes(kind: str, differences: Sequence[Difference]) -> tuple[FieldChange, ...]:
    return tuple(
        FieldChange(_ACTIONS[one.sign], kind, one.key, one.old, one.new, one.note) for one in differences
    )


def _notes(resources: Sequence[Resource], observed: Observed) -> list[Note]:
    """Return notes on available changes that are not declared."""
    return [
        Note(Step.HOST, resource.kind, note.key, note.new, note.note)
        for resource in resources
        for note in registry.kind(resource.kind).notes(resource, observed.items.live[resource.id])
    ]


def _require_observed(host: Host, observed: Observed) -> None:
    errors = {name: str(seen["error"]) for name, seen in observed.items.live.items() if "error" in seen}
    errors |= {"the record of resources": observed.items.error} if observed.items.error else {}
    if errors:
        hint = "correct it, then run again"
        found = (
            Diagnostic(
                host.name, f"{name} could not be read: {error}", "", hint, code="host-state-unreadable"
            )
            for name, error in errors.items()
        )
        raise SparkfleetError(*found)


def diagnostics(host: Host, observed: Observed) -> list[Diagnostic]:
    """Return why declared resources cannot be applied on this Spark, each with what to do."""
    found = []
    for resource in declared(host, observed.user):
        live, recorded = observed.items.live[resource.id], resource.id in observed.items.record
        blocker = registry.kind(resource.kind).blocker(resource, live, recorded=recorded)
        if blocker:
            found.append(replace(blocker, location=f"{host.name}: {blocker.location}"))
    return found
