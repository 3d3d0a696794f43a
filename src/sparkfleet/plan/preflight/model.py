"""One row of a preflight: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """It may serve, worse than it could, or it will be in the way later."""
    FAIL = "fail"
    """It will not serve like this."""
    UNKNOWN = "unknown"
    """It could not be found out."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Verdict
    found: str
    expected: str = ""
    remedy: str = ""
    """The command that mends it, or the line to declare."""


@dataclass(frozen=True)
class Checked:
    """One Spark's rows."""

    host: str
    checks: tuple[Check, ...]

    @property
    def state(self) -> Verdict:
        """Return the worst state: fail, then unknown, then warn."""
        return worst(check.state for check in self.checks)


_ORDER = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN)


def worst(states: Iterable[Verdict]) -> Verdict:
    """Return the worst of some states; ok for none."""
    distinct = set(states)
    return next((state for state in _ORDER if state in distinct), Verdict.OK)


def unread(name: str, error: str, remedy: str = "") -> Check:
    """Return the row of something that could not be found out."""
    return Check(name, Verdict.UNKNOWN, error, remedy=remedy)
