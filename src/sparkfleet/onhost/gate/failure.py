"""Why a start failed, and the exception that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Failure:
    """Why a candidate, or a restored generation, does not serve."""

    cause: str
    remedy: str = ""
    line: str = ""
    """The last lines of the engine's log."""
    exit_code: int | None = None
    trace: str = ""
    """Memory during the start, as CSV."""
    transcript: tuple[dict[str, Any], ...] = ()
    is_consequence: bool = False
    """Whether the log shows only that the cause is on another rank."""


class StartFailedError(Exception):
    """A start failed; ``str()`` is the cause."""

    def __init__(self, failure: Failure | str, remedy: str = "") -> None:
        """Store the failure, or one of this cause and remedy."""
        self.failure = failure if isinstance(failure, Failure) else Failure(failure, remedy)
        super().__init__(self.failure.cause)
