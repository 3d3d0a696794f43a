"""What a user is told when something is wrong: where, what was found, what was expected, what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with what a user wrote or with what was found.

    ``where`` is ``file:line`` (or a host, or a path on a host); ``remedy`` is the next command or edit.
    """

    where: str
    found: str
    expected: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        """Return the problem as one paragraph: where, found, expected, remedy."""
        text = f"{self.where}: {self.found}"
        if self.expected:
            text += f"\n    expected: {self.expected}"
        if self.remedy:
            text += f"\n    do: {self.remedy}"
        return text


class SparkfleetError(Exception):
    """An error meant for the user: shown without a traceback, exit code 1."""

    def __init__(self, *problems: Problem) -> None:
        """Keep every problem, so that all of them are shown at once."""
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))
