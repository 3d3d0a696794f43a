"""Wait for the runtime's daemon without a limit: a program that gives up would leave an engine down when the
daemon is back.
"""

from __future__ import annotations

from collections.abc import Callable

from sparkfleet.onhost.machine.system import System

POLL_S = 1.0
REPORT_S = 30.0


def wait(system: System, report: Callable[[str], None], give_up: Callable[[], bool] = lambda: False) -> bool:
    """Wait until the daemon answers; False when ``give_up`` returned True. ``report`` gets lines."""
    started = system.monotonic()
    reported = started - REPORT_S
    while not system.runtime.available():
        if give_up():
            return False
        if system.monotonic() - reported >= REPORT_S:
            reported = system.monotonic()
            report(f"{system.runtime.daemon} does not answer, waiting for {reported - started:.0f} s")
        system.sleep(POLL_S)
    return True
