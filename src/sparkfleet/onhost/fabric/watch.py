"""After a change of links: waits until everything answers, or something is missing for too long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.fabric import FAILED, FabricRequest, LinksGivenUp
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

    diagnostic: Diagnostic
    patience_s: float | None = None
    """Seconds without interruption after which it is given up; None: the time of the whole change."""

    @property
    def key(self) -> tuple[str, float | None]:
        """Return by what it is known again at the next check."""
        return self.diagnostic.code, self.patience_s


def watch(system: System, request: FabricRequest, management: links.Snapshot, job: Path) -> Diagnostic | None:
    """Return None when everything answers, else what did not within the time."""
    began = system.monotonic()
    since: dict[tuple[str, float | None], float] = {}
    while True:
        gaps = missing(system, request, management, job)
        now = system.monotonic()
        if not gaps and now - began >= HOLD_S:
            return None
        since = {one.key: since.get(one.key, now) for one in gaps}
        for one in gaps:
            if one.patience_s is not None and now - since[one.key] >= one.patience_s:
                return one.diagnostic
        if now - began >= request.wait_s:
            return gaps[0].diagnostic if gaps else check.failed("the system is too slow", code=FAILED)
        system.sleep(POLL_S)


def missing(
    system: System, request: FabricRequest, management: links.Snapshot, job: Path
) -> tuple[Missing, ...]:
    """Return what is not as declared, the most severe first. Peers are checked if nothing is missing here."""
    gone = links.missing(system, management)
    if gone:
        lost = f"the management network was lost: {'; '.join(gone)}"
        return (Missing(check.failed(lost, code="fabric-management-lost"), LOST_S),)
    given_up = files.read_document(LinksGivenUp, job / "given-up.json")
    if given_up:
        return (Missing(given_up.diagnostic, 0),)
    dark = [
        Missing(check.failed(one, code="fabric-no-carrier"), DARK_S)
        for one in check.links_without_carrier(system, request)
    ]
    own = [
        Missing(check.failed(one, code="fabric-link-differs")) for one in check.mismatches(system, request)
    ]
    if not (job / "confirmed").exists():
        cause = "the operator did not open a new connection: the management network may be lost"
        own.append(Missing(check.failed(cause, code="fabric-not-confirmed")))
    return (*dark, *own) or _silent(system, request)


def _silent(system: System, request: FabricRequest) -> tuple[Missing, ...]:
    replies = check.failed_replies(system, request.peers, request.mtu)
    patience_s = SMALL_S if all(reply.small for reply in replies) else None
    return tuple(Missing(reply.diagnostic, patience_s) for reply in replies if reply.diagnostic)
