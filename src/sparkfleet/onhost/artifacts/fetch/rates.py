"""Transfer rates of this host: ``rates.json``, for the estimates of a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.state import Rates
from sparkfleet.onhost.machine import files

COPY, DOWNLOAD, PULL = "copy", "download", "pull"
LEAST_BYTES = 64 << 20
"""Smaller transfers are not measured: setup and completion weigh too much."""


def note(state: Path, kind: str, count: int, seconds: float) -> None:
    """Record the rate of a transfer of ``count`` bytes."""
    if count >= LEAST_BYTES and seconds > 0:
        path = state / "rates.json"
        try:
            known = files.read_or_default(Rates, path)
        except ContractError:
            return  # of a newer version: it stays as it is, only estimates depend on it
        files.write_document(path, replace(known, **{kind: round(count / seconds)}))
