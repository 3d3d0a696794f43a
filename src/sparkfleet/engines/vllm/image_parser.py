"""The image's own parser decides whether flags are accepted, before anything stops.

``data/ask_parser.py`` runs inside the image, with its own Python, without network and GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError
from sparkfleet.engines.base import ArgCheck
from sparkfleet.engines.vllm.schema import Schema, SchemaDump, from_dump

T = TypeVar("T")

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


def read_check(output: str) -> ArgCheck:
    """Return what the program answered to ``parse_words``."""
    check = _last_document(ArgCheck, output)
    if check is None:
        return ArgCheck(None, f"the image did not answer: {output.strip()[-400:] or 'no output'}", "")
    return check


def read_schema(output: str) -> Schema:
    """Return the schema in the program's output. ``ValueError`` if there is none."""
    dump = _last_document(SchemaDump, output)
    if dump is not None:
        return from_dump(dump)
    failed = _last_document(ArgCheck, output)
    reason = failed.error if failed else output.strip()[-400:]
    raise ValueError(f"the image did not return its schema: {reason or 'no output'}")


def _last_document(kind: type[T], output: str) -> T | None:
    """Return the last line that is such an object: other lines are log output."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(ContractError):
                return codec.parse(kind, line, "the image's answer")
    return None
