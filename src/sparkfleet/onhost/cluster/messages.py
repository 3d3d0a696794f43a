"""Messages and time limits of a cluster rollout (docs: clusters)."""

from __future__ import annotations

from sparkfleet.contract.generation import Rank

PORT = 29551
PREPARE, STOP, START, COMMIT, ABORT = "prepare", "stop", "start", "commit", "abort"
"""Decisions of the head."""
ORDER = (PREPARE, STOP, START, COMMIT)
CHECKING, READY, STOPPED, RUNNING, FAILED = "checking", "ready", "stopped", "running", "failed"
PROMOTED, ENDED = "promoted", "ended"
"""States that a member reports; the last two are the end of its rollout."""

POLL_S, BEAT_S, PATIENCE_S = 0.25, 1.0, 3.0
PREPARE_S = 60.0
"""Seconds that a rank waits for the others before anything changes."""
STOP_S = 330.0
"""Seconds for an engine to stop: its own grace and systemd's."""
SILENT_S = 20.0
"""Seconds without a report of a member after which the head gives up."""
LOST_S = 180.0
"""Seconds without an answer of the head after which a member gives up: longer than a reboot."""
EXPLAIN_S = 4.0
"""Seconds that a rank whose engine ended waits for news that another's ended: a few heartbeats."""
WORD_S = 20.0
"""Seconds that an interrupted member asks for the head's decision."""
HEARD_S = 20.0
"""Seconds that a member that has ended tries to report it to the head."""
SETTLE_S = 180.0
"""Seconds that the head waits until every member has reported its end."""

NO_FABRIC = "the fabric: ping the other Sparks' addresses; pyinfra INVENTORY deploys/fabric.py repairs it"


class CoordinationError(Exception):
    """Not all ranks are ready; nothing was changed. ``str()`` is the cause."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        """Keep cause and remedy."""
        super().__init__(cause)
        self.remedy = remedy


def shared(rank: Rank, image_id: str) -> dict[str, str]:
    """Return what must be the same on every rank, by its name in messages."""
    return {"image": image_id, "make": rank.make}
