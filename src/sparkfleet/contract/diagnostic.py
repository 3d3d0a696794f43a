"""One finding about anything: a declaration, the state of a host, the output of an engine.

Standard library alone: programs on a Spark and the operator's side use the same type.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


class Severity(str, Enum):  # noqa: UP042  (StrEnum is not in the Python 3.10 of a host)
    """How much a diagnostic matters."""

    __str__ = str.__str__

    ERROR = "error"
    """Must be resolved before anything continues."""
    WARNING = "warning"
    """It works, but probably not as intended."""
    INFO = "info"
    """Worth knowing; nothing to do."""


@dataclass(frozen=True, order=True)
class Diagnostic:
    """One finding.

    ``location`` is ``file:line``, a host, or a path on a host; ``hint`` is the next command or edit.
    """

    location: str
    message: str
    """What was found."""
    expected: str = ""
    hint: str = ""
    related: tuple[Diagnostic, ...] = ()
    """Other findings of the same check, so that all of them are reported at once."""
    severity: Severity = field(default=Severity.ERROR, kw_only=True)
    code: str = field(kw_only=True)
    """Stable identifier: a code of docs/reference/errors.md, the id of a lint rule or failure pattern."""
    details: str = field(default="", kw_only=True)
    """More lines for whoever wants them: output of a program, a log excerpt."""

    @property
    def place(self) -> tuple[str, int]:
        """Return file and line, to sort by: line 3 comes before line 11. Line 0: the location has none."""
        file, _, line = self.location.rpartition(":")
        return (file, int(line)) if line.isdigit() else (self.location, 0)

    @property
    def each(self) -> tuple[Diagnostic, ...]:
        """Return this diagnostic and its related ones, each on its own."""
        return (replace(self, related=()), *self.related) if self.related else (self,)

    @property
    def line(self) -> str:
        """Return location, message, expected and hint in one line, for a log."""
        expected = f", expected {self.expected}" if self.expected else ""
        found = f"{self.location}: {self.message}" if self.location else self.message
        return f"{found}{expected}" + (f"; {self.hint}" if self.hint else "")

    def __str__(self) -> str:
        """Return a paragraph: location, severity unless error, message, expected, hint; then the related."""
        label = "" if self.severity is Severity.ERROR else f"{self.severity}: "
        text = f"{self.location}: {label}{self.message}"
        if self.expected:
            text += f"\n    expected: {self.expected}"
        if self.hint:
            text += f"\n    do: {self.hint}"
        return "\n".join([text, *(str(one) for one in self.related)])


def combine(*diagnostics: Diagnostic | None) -> Diagnostic | None:
    """Return the first diagnostic with all others as related ones, each once; None when there is none."""
    flat = dict.fromkeys(one for diagnostic in diagnostics if diagnostic for one in diagnostic.each)
    first, *related = flat or (None,)
    return replace(first, related=tuple(related)) if first else None


class SparkfleetError(Exception):
    """An error with its diagnostics, shown without a traceback; ``str()`` has one line for each."""

    def __init__(self, first: Diagnostic, *more: Diagnostic) -> None:
        """Keep every diagnostic, so that all of them are shown at once."""
        super().__init__("\n".join(one.line for one in (first, *more)))
        self.diagnostics = (first, *more)

    @property
    def diagnostic(self) -> Diagnostic:
        """Return the first diagnostic, with all others as its related ones."""
        first, *more = self.diagnostics
        return combine(first, *more) or first
