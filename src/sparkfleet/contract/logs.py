"""Lines of a host's logs, as its programs print them."""

from __future__ import annotations

from dataclasses import dataclass

from sparkfleet.contract.codec import Document

ENGINE, SUPERVISOR, ROLLOUT = "engine", "supervisor", "rollout"
SOURCES = (ENGINE, SUPERVISOR, ROLLOUT)
MAX_LINES = 20_000
"""Lines of a log that one request returns, at most."""


@dataclass(frozen=True)
class LogLine(Document):
    """One line, with secrets masked."""

    NAME = "line of a log"

    text: str
    at: float = 0.0
    """Unix time; 0: the line has its own, if any."""
