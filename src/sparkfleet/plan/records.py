"""What a Spark keeps of a service (``current.json``) against its container and against the declaration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sparkfleet.contract.generation import LABEL_GENERATION, STATE_DIR, Generation
from sparkfleet.plan.model import Action, FieldChange
from sparkfleet.probe.observed import ContainerSeen


def path_of(service: str) -> str:
    """Return where a Spark keeps a service's record."""
    return f"{STATE_DIR}/services/{service}/current.json"


def lost(desired: Generation, kept: Mapping[str, Any]) -> list[FieldChange]:
    """Return that the record is gone; nothing when it is there."""
    if kept:
        return []
    note = "what a rollback goes back to"
    return [FieldChange(Action.ADD, "record", path_of(desired.service), note=note)]


def made_by_hand(own: ContainerSeen, desired: Generation, kept: Mapping[str, Any]) -> list[FieldChange]:
    """Return that the container is not the promoted one: its supervisor will not start it after a reboot.

    Without a record, a container without the label of the declared generation may never have passed the gate.
    """
    promoted = (kept.get("container") or {}).get("id")
    if promoted and promoted != own.id:
        new = f"{promoted[:12]} as promoted"
        return [FieldChange(Action.CHANGE, "container", "id", f"{own.id[:12]} made by hand", new)]
    label = (own.config.get("Labels") or {}).get(LABEL_GENERATION, "")
    return lost(desired, kept) if not kept and label != desired.id else []


def live_generation(desired: Generation, kept: Mapping[str, Any]) -> Generation:
    """Return the generation for a change that keeps the container, with the declared unit, gate, limits.

    The container may spell the same flags differently (order, defaults): its record must go on telling how it
    was made, or a rollback would make another one.
    """
    if not kept:
        return desired
    return replace(
        Generation.from_json(dict(kept)),
        unit=desired.unit,
        gate=desired.gate,
        recipe=desired.recipe,
        floor_mib=desired.floor_mib,
        need_mib=desired.need_mib,
        stop_timeout_s=desired.stop_timeout_s,
    )
