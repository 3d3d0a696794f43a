"""The history that a host keeps: one entry for each run that changed a service."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparkfleet.contract.codec import Document

FILE = "history.jsonl"
"""In the state directory; one HistoryEntry a line."""
OLDER_FILE = "history.1.jsonl"
"""The entries before those of FILE; older ones are gone."""


@dataclass(frozen=True)
class RunContext(Document):
    """From what an operator's run began; a request carries it, the host records it."""

    NAME = "context of a run"

    command: str = ""
    """Name of the deploy: ``serve``, ``rollback`` ..."""
    commit: str = ""
    """Commit of the fleet directory; "" outside of git."""
    dirty: bool = False
    """Whether the directory had changes that were not committed."""
    changes: tuple[str, ...] = ()
    """Fields that change, as the plan shows them, without secrets."""


@dataclass(frozen=True)
class HistoryEntry(Document):
    """A change of a service that has ended."""

    NAME = "entry of the history"

    at: float
    """Unix time of its end."""
    service: str
    outcome: str
    """Of a rollout: promoted, restored, removed, failed."""
    text: str = ""
    """The result in one sentence."""
    operator: str = ""
    """``user@machine``."""
    context: RunContext = field(default_factory=RunContext)
    rollout: str = ""
    """Its id; "" for a change without a rollout."""
    generation: str = ""
    """Id of the requested generation."""
    before: str = ""
    """Id of the generation that served before."""
    duration_s: float | None = None
    downtime_s: float | None = None
    """Seconds without a serving engine; None: nothing serves, or nothing was stopped."""
