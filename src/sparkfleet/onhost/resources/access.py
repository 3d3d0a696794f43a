"""The Spark as the kinds of resources see it while they apply and revert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparkfleet.onhost.collectors.resources import ObservedHost
from sparkfleet.onhost.machine.system import CommandResult, System
from sparkfleet.resources.base import STATE_DIR, UNIT_DIR


class HostAccess(ObservedHost):
    """Files and commands of this Spark, ``resources/base.py``'s Protocol ``Host``."""

    def __init__(self, system: System, root: str = "") -> None:
        """Take the machine; ``root`` is "" on a Spark, a directory in tests."""
        self.system, self.root = system, root

    def path(self, path: str) -> str:
        """Return where a path is: our state and units below the machine's directories, others below root."""
        for prefix, folder in ((STATE_DIR, self.state), (UNIT_DIR, self.units)):
            if path == prefix or path.startswith(prefix + "/"):
                return str(folder) + path[len(prefix) :]
        return self.root + path

    @property
    def state(self) -> Path:
        """Directory of sparkfleet's own state."""
        return self.system.paths.state

    @property
    def units(self) -> Path:
        """Directory of systemd's units."""
        return self.system.paths.units

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        """Run a command to its end."""
        return self.system.run(argv, timeout_s)
