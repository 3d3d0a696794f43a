"""Why a stage job ended without success."""

from __future__ import annotations

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.stage import FAILED, StageResult


class StageError(SparkfleetError):
    """A job cannot continue. ``result`` is how the job ends."""

    def __init__(
        self,
        location: str,
        found: str,
        hint: str,
        line: str = "",
        *,
        code: str = "staging-failed",
        source_failed: bool = False,
    ) -> None:
        """Build the result; ``location`` is an artifact, a file or a host."""
        super().__init__(Diagnostic(location, found, hint=hint, code=code))
        self.result = StageResult(FAILED, diagnostic=self.diagnostic, line=line, source_failed=source_failed)

    @classmethod
    def of(cls, result: StageResult) -> StageError:
        """Return the error of a result that a child process reported."""
        one = result.diagnostic or Diagnostic("", "no reason was reported", code="staging-failed")
        error = cls(one.location, one.message, one.hint, code=one.code)
        error.result = result
        return error
