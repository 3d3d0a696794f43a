"""One row of a preflight: a check, with what was found and a diagnostic unless it passed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from sparkfleet.contract.diagnostic import Diagnostic, Severity

INCOMPLETE = "preflight-incomplete"
"""Code of a check that could not be carried out."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """It may serve, but slower, or with a conflict later."""
    FAIL = "fail"
    """It will not serve."""
    UNKNOWN = "unknown"
    """The check could not be carried out."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    found: str
    diagnostic: Diagnostic | None = None
    """None: passed."""

    @property
    def state(self) -> State:
        """Return how it ended."""
        if self.diagnostic is None:
            return State.OK
        if self.diagnostic.code == INCOMPLETE:
            return State.UNKNOWN
        return State.FAIL if self.diagnostic.severity is Severity.ERROR else State.WARN


@dataclass(frozen=True)
class HostPreflight:
    """One Spark's checks."""

    host: str
    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """Return the worst state: fail, then unknown, then warn."""
        return worst(check.state for check in self.checks)


_ORDER = (State.FAIL, State.UNKNOWN, State.WARN)


def worst(states: Iterable[State]) -> State:
    """Return the worst of some states; ok for none."""
    distinct = set(states)
    return next((state for state in _ORDER if state in distinct), State.OK)


def of(name: str, diagnostic: Diagnostic) -> Check:
    """Return the check that ended with a diagnostic."""
    return Check(name, diagnostic.message, diagnostic)


def failed(name: str, found: str, expected: str = "", hint: str = "", *, code: str) -> Check:
    """Return a failed check."""
    return of(name, Diagnostic(name, found, expected, hint, code=code))


def warned(name: str, found: str, expected: str = "", hint: str = "", *, code: str) -> Check:
    """Return a check that passed with a warning."""
    return of(name, Diagnostic(name, found, expected, hint, severity=Severity.WARNING, code=code))


def incomplete(name: str, error: str, hint: str = "") -> Check:
    """Return a check that could not be carried out."""
    return warned(name, error, hint=hint, code=INCOMPLETE)


def located(host: str, check: Check) -> Check:
    """Return the check with a location that names the host, too."""
    found = check.diagnostic
    if found is None or found.location != check.name:
        return check
    return replace(check, diagnostic=replace(found, location=f"{host}: {check.name}"))
