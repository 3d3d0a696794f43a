"""After a change of links: waits until everything answers, or something is missing for too long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract.fabric import FabricRequest, LinksGivenUp
from sparkfleet.onhost.fabric import check, links
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System

HOLD_S = 5.0
"""Seconds that the management network must remain unchanged after the change."""
POLL_S = 0.5
LOST_S = POLL_S
"""Seconds without the management address after which it counts as lost: two checks in a row."""
DARK_S = 15.0
"""Seconds until a link must have a carrier again: a new MTU takes it down for a moment."""
SMALL_S = 8.0
"""Seconds with answers to small packets only, after which full-size ones are given up."""


@dataclass(frozen=True)
class Missing:
    """Something that is not yet as declared."""

    kind: str
    cause: str
    patience_s: float | None = None
    """Seconds without interruption after which it is given up; None: the time of the whole change."""


def watch(system: System, request: FabricRequest, management: links.Snapshot, job: Path) -> str:
    """Return "" when everything answers, else what did not within the time."""
    began = system.monotonic()
    since: dict[str, float] = {}
    while True:
        found = missing(system, request, management, job)
        now = system.monotonic()
        if not found and now - began >= HOLD_S:
            return ""
        since = {one.kind: since.get(one.kind, now) for one in found}
        for one in found:
            if one.patience_s is not None and now - since[one.kind] >= one.patience_s:
                return one.cause
        if now - began >= request.wait_s:
            return found[0].cause if found else "the system is too slow"
        system.sleep(POLL_S)


def missing(
    system: System, request: FabricRequest, management: links.Snapshot, job: Path
) -> tuple[Missing, ...]:
    """Return what is not as declared, the most severe first. Peers are checked if nothing is missing here."""
    gone = links.missing(system, management)
    if gone:
        return (Missing("management", f"the management network was lost: {'; '.join(gone)}", LOST_S),)
    given_up = files.read_document(LinksGivenUp, job / "given-up.json")
    if given_up:
        return (Missing("given up", given_up.cause, 0),)
    dark = [Missing("carrier", cause, DARK_S) for cause in check.dark(system, request)]
    own = [Missing("links", cause) for cause in check.mismatches(system, request)]
    if not (job / "confirmed").exists():
        cause = "the operator did not open a new connection: the management network may be lost"
        own.append(Missing("operator", cause))
    return (*dark, *own) or _silent(system, request)


def _silent(system: System, request: FabricRequest) -> tuple[Missing, ...]:
    answers = check.silent(system, request.peers, request.mtu)
    small = bool(answers) and all(answer.small for answer in answers)
    kind, patience_s = ("small", SMALL_S) if small else ("silent", None)
    return tuple(Missing(kind, answer.problem, patience_s) for answer in answers)
