"""Unexpected errors: a failure of one host must not stop another."""

from __future__ import annotations

import os
import traceback

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.fleet.connection.remote import ConnectionLostError


def is_verbose() -> bool:
    """Return whether internal errors are printed with a traceback."""
    return bool(os.environ.get("SPARKFLEET_DEBUG"))


def host_diagnostic(host: str, error: Exception) -> Diagnostic:
    """Return why nothing more is known of a host: the error's diagnostics, or an internal error."""
    if isinstance(error, SparkfleetError):
        return error.diagnostic
    if isinstance(error, ConnectionLostError):
        return Diagnostic(host, f"connection lost: {error}", hint="run again", code="connection-lost")
    if is_verbose():
        traceback.print_exception(error)
    remedy = "run again with SPARKFLEET_DEBUG=1 and report it"
    return Diagnostic(host, f"{type(error).__name__}: {error}", hint=remedy, code="operation-failed")
