"""Commands, states and time limits of a cluster rollout (docs: clusters)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Rank
from sparkfleet.onhost.gate.failure import Failure, StartFailedError

PORT = 29551
PREPARE, STOP, START, COMMIT, ABORT = "prepare", "stop", "start", "commit", "abort"
"""Commands of the head."""
ORDER = (PREPARE, STOP, START, COMMIT)
CHECKING, READY, STOPPED, RUNNING, FAILED = "checking", "ready", "stopped", "running", "failed"
PROMOTED, ENDED = "promoted", "ended"
"""States that a member reports; the last two are the end of its rollout."""

POLL_S, HEARTBEAT_S, REQUEST_S = 0.25, 1.0, 3.0
PREPARE_S = 60.0
"""Seconds to wait for all ranks before anything changes."""
STOP_S = 600.0
"""Seconds for a step of a rank: its engine's grace period and that of systemd (330), then the waits for RDMA
regions (60), memory (90) and GIDs (60)."""
SILENT_S = 20.0
"""Seconds without a report of a member after which the head gives up."""
LOST_S = 180.0
"""Seconds without a response of the head after which a member gives up: longer than a reboot."""
EXPLAIN_S = 4.0
"""Seconds that a rank whose engine ended waits for reports that others ended: a few heartbeats."""
DECISION_S = 20.0
"""Seconds that an interrupted member requests the head's decision."""
FINAL_REPORT_S = 20.0
"""Seconds that a member retries to report its end to the head."""
SETTLE_S = 180.0
"""Seconds that the head waits until every member has reported its end."""

NO_FABRIC = "the fabric: ping the other Sparks' addresses; pyinfra INVENTORY deploys/fabric.py repairs it"


class CoordinationError(StartFailedError):
    """Not all ranks are ready; nothing was changed."""


def rank_unreachable(service: str, found: str) -> Diagnostic:
    """Return that another rank of a service does not answer."""
    return Diagnostic(service, found, hint=NO_FABRIC, code="cluster-rank-silent")


def rank_diagnostic(service: str, name: str, diagnostic: Diagnostic | None) -> Diagnostic:
    """Return what another rank of a service reported; ``name`` is the rank's."""
    if diagnostic is None:
        return rank_unreachable(service, f"{name}: no reason was reported")
    own = diagnostic.location == service
    found = diagnostic.message if own else f"{diagnostic.location}: {diagnostic.message}"
    return replace(diagnostic, location=service, message=f"{name}: {found}")


def with_root_cause(failure: Failure, reported: Sequence[Diagnostic]) -> Failure:
    """Return a failure with those of other ranks, one of which is the cause where it is a consequence."""
    own = failure.diagnostic
    cause = next((one for one in reported if one.hint), own) if failure.is_consequence else own
    message = "; ".join([own.message, *(one.message for one in reported)])
    return replace(failure, diagnostic=replace(own, message=message, hint=cause.hint, code=cause.code))


def values_of_all_ranks(rank: Rank, image_id: str) -> dict[str, str]:
    """Return the values that must be equal on all ranks, by their names in messages."""
    return {"image": image_id, "fingerprint": rank.fingerprint}
