"""The image's own parser decides whether flags are accepted, before anything stops.

``data/ask_parser.py`` runs inside the image, with its own Python, without network and GPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparkfleet.engines.base import ArgCheck
from sparkfleet.engines.vllm.schema import Schema, from_dump

SCRIPT = Path(__file__).parent / "data" / "ask_parser.py"
"""The program, for the image's Python on stdin."""
TIMEOUT_S = 300
"""Time limit in seconds; importing vLLM takes 7 to 15 s."""


def parse_args(args: Sequence[str]) -> tuple[str, ...]:
    """Return the program's arguments for a check of ``vllm serve ARGS``."""
    return ("parse", *args)


def schema_args() -> tuple[str, ...]:
    """Return the program's arguments for a description of the whole schema."""
    return ("schema",)


def read_answer(output: str) -> ArgCheck:
    """Return what the program answered to ``parse_words``."""
    data = _last_document(output)
    if data is None:
        return ArgCheck(None, f"the image did not answer: {output.strip()[-400:] or 'no output'}", "")
    return ArgCheck(data.get("ok"), str(data.get("error", "")), str(data.get("version", "")))


def read_schema(output: str) -> Schema:
    """Return the schema in the program's output. ``ValueError`` if there is none."""
    data = _last_document(output)
    if data is None or "flags" not in data:
        reason = data.get("error", "") if data else output.strip()[-400:]
        raise ValueError(f"the image did not return its schema: {reason or 'no output'}")
    return from_dump(data)


def _last_document(output: str) -> dict[str, Any] | None:
    """Return the last line that is a JSON object: earlier lines are log output."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                data = json.loads(line)
            except ValueError:
                continue
            return data if isinstance(data, dict) else None
    return None
