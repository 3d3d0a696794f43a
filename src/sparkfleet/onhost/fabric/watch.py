"""After a change of links: does everything answer, or has something been missing for too long?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract.fabric import FabricRequest
from sparkfleet.onhost.fabric import check, links
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System

HOLD_S = 5.0
"""Seconds that the management network must stay as it was after the change."""
POLL_S = 0.5
LOST_S = POLL_S
"""Two looks in a row without the management address: it is lost."""
DARK_S = 15.0
"""Seconds that a link may take until it has its carrier again: a new MTU takes it down for a moment."""
SMALL_S = 8.0
"""Seconds in which others answer small packets alone, after which they will not answer whole ones."""


@dataclass(frozen=True)
class Missing:
    """Something that is not yet as it shall be."""

    kind: str
    cause: str
    patience_s: float | None = None
    """Seconds without a break after which it will not come; None: all the time that there is."""


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
    """Return what is not as it shall be, the gravest first. Peers are asked when nothing is missing here."""
    gone = links.missing(system, management)
    if gone:
        return (Missing("management", f"the management network was lost: {'; '.join(gone)}", LOST_S),)
    said = files.read_json(job / "given-up.json")
    if said:
        return (Missing("given up", str(said["cause"]), 0),)
    dark = [Missing("carrier", cause, DARK_S) for cause in check.dark(system, request)]
    here = [Missing("here", cause) for cause in check.wrong(system, request)]
    if not (job / "confirmed").exists():
        here.append(Missing("operator", "nobody came in over a new connection: management may be lost"))
    return (*dark, *here) or _silent(system, request)


def _silent(system: System, request: FabricRequest) -> tuple[Missing, ...]:
    answers = check.silent(system, request.peers, request.mtu)
    small = bool(answers) and all(answer["small"] for answer in answers)
    kind, patience_s = ("small", SMALL_S) if small else ("silent", None)
    return tuple(Missing(kind, answer["problem"], patience_s) for answer in answers)
