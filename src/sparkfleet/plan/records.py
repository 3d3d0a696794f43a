"""The record of a service on the Spark (``current.json``), compared with container and declaration."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.contract.generation import STATE_DIR, CurrentGeneration, Generation, convert
from sparkfleet.plan.model import Action, FieldChange
from sparkfleet.runtimes.observation import ObservedInstance


def path_of(service: str) -> str:
    """Return the path of a service's record."""
    return f"{STATE_DIR}/services/{service}/current.json"


def missing_record(desired: Generation, record: CurrentGeneration | None) -> list[FieldChange]:
    """Return a change if the record is missing."""
    if record is not None:
        return []
    note = "what a rollback goes back to"
    return [FieldChange(Action.ADD, "record", path_of(desired.service), note=note)]


def promotion_change(
    own: ObservedInstance, desired: Generation, record: CurrentGeneration | None
) -> list[FieldChange]:
    """Return a change if the container is not the promoted one, which its supervisor would not start after a
    reboot.

    Without a record, a container without the label of the declared generation may never have passed the gate.
    """
    promoted = record.container_id if record else ""
    if promoted and promoted != own.id:
        new = f"{promoted[:12]} as promoted"
        return [FieldChange(Action.CHANGE, "container", "id", f"{own.id[:12]} made by hand", new)]
    return missing_record(desired, record) if record is None and own.generation != desired.id else []


def live_generation(desired: Generation, record: CurrentGeneration | None) -> Generation:
    """Return the generation of an update in place: the recorded one with the declared unit, gate and limits.

    Argv stays as recorded: the container may have the same flags in another order, and a rollback must
    recreate exactly that container.
    """
    if record is None:
        return desired
    return replace(
        convert(Generation, record),
        unit=desired.unit,
        gate=desired.gate,
        recipe=desired.recipe,
        floor_mib=desired.floor_mib,
        need_mib=desired.need_mib,
        stop_timeout_s=desired.stop_timeout_s,
    )
