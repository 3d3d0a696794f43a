"""Why a stage job ended without success."""

from __future__ import annotations

from sparkfleet.contract.stage import FAILED, StageResult


class StageError(Exception):
    """A job cannot continue. ``str()`` is the cause, ``result`` is how the job ends."""

    def __init__(
        self, cause: str, remedy: str, line: str = "", *, source_failed: bool = False, refused: bool = False
    ) -> None:
        """Build the result; its fields say what the arguments mean."""
        super().__init__(cause)
        self.result = StageResult(
            FAILED, cause=cause, remedy=remedy, line=line, source_failed=source_failed, refused=refused
        )

    @classmethod
    def of(cls, result: StageResult) -> StageError:
        """Return the error of a result that a child process reported."""
        error = cls(result.cause, result.remedy)
        error.result = result
        return error
