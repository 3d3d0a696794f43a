"""The history of every Spark of a fleet, and the generations that it keeps. Read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet import kept_files, queries
from sparkfleet.fleet.kept_files import StoredState


@dataclass(frozen=True)
class HostHistory:
    """What one Spark keeps, or why that is unknown."""

    host: str
    stored: StoredState = field(default_factory=StoredState)
    unknown: Diagnostic | None = None


def fleet_history(inventory: Path, limit: Sequence[str] = ()) -> list[HostHistory]:
    """Return the history of every Spark."""

    def one(host: PyinfraHost) -> HostHistory:
        return HostHistory(host.name, kept_files.read(host, *kept_files.GENERATIONS, *kept_files.HISTORY))

    return queries.of_each(
        inventory, limit, one, lambda name, diagnostic: HostHistory(name, unknown=diagnostic)
    )
