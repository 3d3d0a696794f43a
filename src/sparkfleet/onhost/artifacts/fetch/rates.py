"""How fast this Spark fetched last: ``rates.json``, for what a plan says of the next time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sparkfleet.contract.state import Rates
from sparkfleet.onhost.machine import files

COPY, DOWNLOAD, PULL = "copy", "download", "pull"
LEAST_BYTES = 64 << 20
"""Less says nothing of a rate: beginning and end weigh too much."""


def note(state: Path, kind: str, count: int, seconds: float) -> None:
    """Write down that so many bytes took so long."""
    if count >= LEAST_BYTES and seconds > 0:
        path = state / "rates.json"
        known = files.read_or_default(Rates, path)
        files.write_json(path, replace(known, **{kind: round(count / seconds)}).to_json())
