"""Starts of an engine that neither served nor were stopped on purpose, counted over reboots.

systemd counts failed starts only until the next boot. An engine whose start takes the whole Spark down would
be started again by every boot, so that the supervisor keeps its own count on disk.
"""

from __future__ import annotations

from pathlib import Path

from sparkfleet.contract import state as contract
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.units import MAX_STARTS, WITHIN_S


class Starts:
    """The count of one service, in ``starts.json`` of its directory."""

    def __init__(self, path: Path) -> None:
        """Set the file; it may be missing."""
        self._path = path

    def open(self, now: float) -> list[float]:
        """Return the unix times of the unproven starts within the last hour, oldest first."""
        times = files.read_or_default(contract.Starts, self._path).unproven
        return [at for at in times if now - WITHIN_S < at <= now]

    def too_many(self, now: float) -> bool:
        """Return whether one more start is too much."""
        return len(self.open(now)) >= MAX_STARTS

    def begin(self, now: float) -> None:
        """Count a start, on disk before it happens."""
        self._write([*self.open(now), now])

    def forgive(self) -> None:
        """Reset the count: the engine serves, or was stopped on purpose."""
        if self._path.exists():
            files.remove(self._path)

    def _write(self, times: list[float]) -> None:
        try:
            files.write_json(self._path, contract.Starts(tuple(times)).to_json())
        except OSError:
            return  # a full disk must not keep an engine down
