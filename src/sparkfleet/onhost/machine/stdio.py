"""How the programs here are spoken to and answer: JSON on stdin, JSON lines on stdout, an exit code."""

from __future__ import annotations

import json
import sys
from typing import Any

OK, PROBLEM = 0, 1


def say(data: dict[str, Any]) -> None:
    """Print one line, at once."""
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def asked() -> dict[str, Any]:
    """Return the object that is on stdin. Raise ValueError for another thing."""
    try:
        data = json.load(sys.stdin)
    except ValueError as error:
        raise ValueError(f"stdin: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError("stdin: expected a JSON object")  # noqa: TRY004 (what was written is wrong)
    return data
