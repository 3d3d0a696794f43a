"""Declared resources against observed ones: operations with their differences, and blockers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.contract.resources import RENAMED_KINDS
from sparkfleet.desired_state import Host
from sparkfleet.onhost.collectors import resources
from sparkfleet.plan import render_service
from sparkfleet.plan.model import Action, FieldChange, Note, Operation, Step
from sparkfleet.plan.operations import ApplyResource, RevertResource
from sparkfleet.probe.observation import Observed, User, state_path
from sparkfleet.probe.response import RESOURCES
from sparkfleet.resources import registry
from sparkfleet.resources.base import Difference, PlanContext, Resource

_ACTIONS = {"+": Action.ADD, "~": Action.CHANGE, "-": Action.REMOVE}


def to_observe(host: Host) -> tuple[tuple[str, str, str], ...] | None:
    """Return what the probe must observe; None when no resource is declared."""
    found = tuple((one.kind, one.key, one.arg) for one in host.prepare.resources)
    return found or None


def undeclared_kinds(sent: ProbeRequest, observed: Observed) -> tuple[str, ...]:
    """Return the kinds of resources on record that a probe did not observe."""
    recorded = {_kind_of(name) for name in observed.recorded}
    return tuple(sorted((recorded & set(registry.names())) - set(sent.kinds)))


def _kind_of(name: str) -> str:
    """Return the kind of a recorded resource by its id, which may be one of version 1."""
    kind = name.partition(" ")[0]
    return RENAMED_KINDS.get(kind, kind)


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
    names = (render_service.cache_directory(host, service).rsplit("/", 1)[-1] for service in host.services)
    context, resources = PlanContext(frozenset(names)), declared(host, observed.user)
    planned_operations: list[Operation] = []
    notes: list[Note] = []
    for resource in resources:
        with _expected_format(host, resource.id):
            kind, live = registry.kind(resource.kind), observed.resources.live[resource.id]
            differences = kind.differences(resource, live, context)
            if differences:
                planned, changes = kind.planned(resource, differences), _changes(resource.kind, differences)
                planned_operations.append(
                    ApplyResource(resource.kind, resource.key, planned, changes=changes)
                )
            offered = kind.notes(resource, live)
            notes += [Note(Step.HOST, kind.name, one.key, one.new, one.note) for one in offered]
    ids = {resource.id for resource in resources}
    for name, entry in observed.resources.record.items():
        if name not in ids:
            with _expected_format(host, name):
                live = observed.resources.live[name]
                differences = registry.kind(entry.kind).reverted_differences(entry, live)
                planned_operations.append(
                    RevertResource(entry.kind, entry.key, changes=_changes(entry.kind, differences))
                )
    return planned_operations, notes if planned_operations else []


@contextmanager
def _expected_format(host: Host, name: str) -> Iterator[None]:
    """Raise SparkfleetError if a kind cannot read what was observed or recorded of a resource."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        message = f"{name}: its state or its record has an unexpected format: {type(error).__name__}: {error}"
        hint = f"correct or move away {state_path(RESOURCES)} on the Spark; then run again"
        raise SparkfleetError(
            Diagnostic(host.name, message, "", hint, code="host-state-unreadable")
        ) from None


def _changes(kind: str, differences: Sequence[Difference]) -> tuple[FieldChange, ...]:
    return tuple(
        FieldChange(_ACTIONS[one.sign], kind, one.key, one.old, one.new, one.note) for one in differences
    )


def _require_observed(host: Host, observed: Observed) -> None:
    unreadable = observed.unreadable.get(RESOURCES)
    if unreadable:
        raise SparkfleetError(unreadable)
    errors = {name: str(seen["error"]) for name, seen in observed.resources.live.items() if "error" in seen}
    errors |= {
        name: "unknown kind of resource, recorded by a newer sparkfleet"
        for name in observed.recorded
        if _kind_of(name) not in registry.names()
    }
    errors |= {"the record of resources": observed.resources.error} if observed.resources.error else {}
    if errors:
        hint = "correct it, then run again"
        diagnostics = (
            Diagnostic(
                host.name, f"{name} could not be read: {error}", "", hint, code="host-state-unreadable"
            )
            for name, error in errors.items()
        )
        raise SparkfleetError(*diagnostics)


def diagnostics(host: Host, observed: Observed) -> list[Diagnostic]:
    """Return why declared resources cannot be applied on this Spark, each with what to do."""
    found = []
    for resource in declared(host, observed.user):
        live, recorded = observed.resources.live[resource.id], resource.id in observed.resources.record
        with _expected_format(host, resource.id):
            blocker = registry.kind(resource.kind).blocker(resource, live, recorded=recorded)
        if blocker:
            found.append(replace(blocker, location=f"{host.name}: {blocker.location}"))
    return found
