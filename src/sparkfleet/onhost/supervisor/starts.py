"""Failed starts of an engine, counted over reboots.

systemd counts failed starts only until the next boot. An engine whose start crashes the whole Spark
would be restarted at every boot, so the supervisor keeps its own count on disk.
"""

from __future__ import annotations

from pathlib import Path

from sparkfleet.contract import state as contract
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.units import MAX_STARTS, WITHIN_S


class Starts:
    """Starts of one service that neither served nor were stopped on purpose: ``starts.json``."""

    def __init__(self, path: Path) -> None:
        """Store the path; the file may be missing."""
        self._path = path

    def recent(self, now: float) -> list[float]:
        """Return the unix times of the starts within the last hour, oldest first.

        A start in the future was recorded before the clock was set back: it counts from now on.
        """
        times = files.read_or_default(contract.Starts, self._path).unproven
        found = [min(at, now) for at in times if now - WITHIN_S < at]
        if any(at > now for at in times):
            self._write(found)
        return found

    def too_many(self, now: float) -> bool:
        """Return whether the limit is reached."""
        return len(self.recent(now)) >= MAX_STARTS

    def record_start(self, now: float) -> None:
        """Record a start, on disk before it happens."""
        self._write([*self.recent(now), now])

    def withdraw(self, at: float) -> None:
        """Remove a recorded start: the runtime refused it, no engine ran."""
        self._write([one for one in self.recent(at) if one != at])

    def reset(self) -> None:
        """Reset the count: the engine serves, or was stopped on purpose."""
        if self._path.exists():
            files.remove(self._path)

    def _write(self, times: list[float]) -> None:
        try:
            files.write_document(self._path, contract.Starts(tuple(times)))
        except OSError:
            return  # a full disk must not keep an engine from starting
