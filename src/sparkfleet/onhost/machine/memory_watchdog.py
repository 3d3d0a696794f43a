"""Kills one process while memory is low. A program of its own: what holds the interpreter of a rollout or a
supervisor does not hold it.

    python3 -c SOURCE MEMINFO FLOOR_MIB PID INSTANCE

It checks until its stdin is closed, and prints MemAvailable (MiB) before it kills. ``host.py`` has this text
in memory: the file of the programs may be replaced meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from contextlib import suppress

EVERY_S = 1.0
STDIN, STDOUT = 0, 1
ALL_PAGES = 1 | 2
"""MCL_CURRENT and MCL_FUTURE: a watchdog that must be read back from disk is too late."""


def main() -> None:
    """Watch until stdin is closed."""
    meminfo, floor_mib, pid, instance = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mlockall(ALL_PAGES)
    reported = False
    while True:
        available = available_mib(meminfo)
        if available < floor_mib:
            if not reported:
                with suppress(OSError):
                    os.write(STDOUT, b"%d\n" % available)
                reported = True
            kill(pid, instance)
        if select.select([STDIN], [], [], EVERY_S)[0]:
            return


def available_mib(meminfo: str) -> int:
    """Return MemAvailable."""
    with open(meminfo, encoding="ascii") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("MemAvailable:"))


def kill(pid: int, instance: str) -> None:
    """SIGKILL the process if it still belongs to the instance."""
    with suppress(OSError):
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            if instance not in file.read():
                return
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
