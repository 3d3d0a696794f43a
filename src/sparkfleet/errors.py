"""The error that a user sees: one or more diagnostics, without a traceback."""

from __future__ import annotations

from sparkfleet.contract.diagnostic import Diagnostic


class SparkfleetError(Exception):
    """An error meant for the user: shown without a traceback, exit code 1."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        """Keep every diagnostic, so that all of them are shown at once."""
        self.diagnostics = diagnostics
        super().__init__("\n".join(str(diagnostic) for diagnostic in diagnostics))
