"""What a user is told when something is wrong: where, what was found, what was expected, what to do."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with what a user wrote or with what was found.

    ``where`` is ``file:line`` (or a host, or a path on a host); ``remedy`` is the next command or edit.
    """

    where: str
    found: str
    expected: str = ""
    remedy: str = ""
    also: tuple[Problem, ...] = ()
    """What else is wrong there, found by the same look: all reasons at once, not the first alone."""

    @property
    def each(self) -> tuple[Problem, ...]:
        """Return this problem and those beside it, each on its own."""
        return (replace(self, also=()), *self.also) if self.also else (self,)

    def __str__(self) -> str:
        """Return the problem as a paragraph: where, found, expected, remedy; then those beside it."""
        text = f"{self.where}: {self.found}"
        if self.expected:
            text += f"\n    expected: {self.expected}"
        if self.remedy:
            text += f"\n    do: {self.remedy}"
        return "\n".join([text, *(str(problem) for problem in self.also)])


def together(*problems: Problem | None) -> Problem | None:
    """Return the first problem with all others beside it, each once; None when there is none."""
    flat = dict.fromkeys(one for problem in problems if problem for one in problem.each)
    first, *others = flat or (None,)
    return replace(first, also=tuple(others)) if first else None


class SparkfleetError(Exception):
    """An error meant for the user: shown without a traceback, exit code 1."""

    def __init__(self, *problems: Problem) -> None:
        """Keep every problem, so that all of them are shown at once."""
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))
