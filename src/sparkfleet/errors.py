"""Diagnostics as a terminal shows them, without a traceback."""

from __future__ import annotations

import re
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

_inventory = ""


def name_inventory(path: str) -> None:
    """Have commands in messages name this inventory; they are written with the placeholder INVENTORY."""
    global _inventory  # noqa: PLW0603  (one a process; what plans, and Sparks, do not know it)
    _inventory = path


def with_inventory(text: str) -> str:
    """Return the text with the inventory of this command in the commands that it names."""
    return re.sub(r"\bINVENTORY\b", lambda _: _inventory, text) if _inventory else text


def with_code(text: str, code: str) -> str:
    """Return the text with the code of its diagnostic at the end of the first line."""
    first, newline, rest = text.partition("\n")
    mark = "" if f"[{code}]" in first else f" [{code}]"  # rules have it in their message
    return f"{first}{mark}{newline}{rest}"


def paragraph(diagnostic: Diagnostic) -> str:
    """Return the diagnostic and its related ones for a terminal, with their codes."""
    own = with_code(str(replace(diagnostic, related=())), diagnostic.code)
    return "\n".join([with_inventory(own), *map(paragraph, diagnostic.related)])


def error_text(error: SparkfleetError) -> str:
    """Return all diagnostics of an error for a terminal, with their codes."""
    return "\n".join(map(paragraph, error.diagnostics))


def user_error(code: str, where: str, found: str, expected: str, hint: str) -> SparkfleetError:
    """Return an error with one diagnostic."""
    return SparkfleetError(Diagnostic(where, found, expected, hint, code=code))
