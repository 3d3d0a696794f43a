"""Input and output of the programs: JSON on stdin, JSON lines on stdout, an exit code."""

from __future__ import annotations

import json
import sys
from typing import Any

OK, PROBLEM = 0, 1


def write_json(data: dict[str, Any]) -> None:
    """Print one line and flush it."""
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def read_json() -> dict[str, Any]:
    """Return the JSON object on stdin. Raise ValueError for anything else."""
    try:
        data = json.load(sys.stdin)
    except ValueError as error:
        raise ValueError(f"stdin: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError("stdin: expected a JSON object")  # noqa: TRY004 (the text is wrong)
    return data
