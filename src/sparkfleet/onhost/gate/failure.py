"""Why a start failed, and the exception that carries it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError


@dataclass(frozen=True)
class Failure:
    """Why a candidate, or a restored generation, does not serve, and the evidence of it."""

    diagnostic: Diagnostic
    """Its code may be the id of a failure pattern."""
    line: str = ""
    """The lines of a log that show it, without their prefixes; "" when the exit code alone does."""
    exit_code: int | None = None
    trace: str = ""
    """Memory during the start, as CSV."""
    transcript: tuple[dict[str, Any], ...] = ()
    is_consequence: bool = False
    """Whether the log shows only that the cause is in another place, which the hint names."""

    def of(self, service: str, event: str) -> Failure:
        """Return this failure, found in a log, as the cause of an event of a service."""
        message = f"{event}: {self.diagnostic.message}"
        return replace(self, diagnostic=replace(self.diagnostic, location=service, message=message))


class StartFailedError(SparkfleetError):
    """A start failed."""

    def __init__(self, failure: Failure | Diagnostic) -> None:
        """Keep the failure, or one without evidence."""
        self.failure = failure if isinstance(failure, Failure) else Failure(failure)
        super().__init__(self.failure.diagnostic)
