"""Wait for the runtime's daemon without a limit: a program that gives up would leave an engine down when the
daemon is back.
"""

from __future__ import annotations

from collections.abc import Callable

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.onhost.machine.system import System
from sparkfleet.runtimes.base import Runtime, RuntimeUnavailableError

POLL_S = 1.0
REPORT_S = 30.0
SHUTDOWN_S, SHUTDOWN_POLL_S = 3.0, 0.2
"""Seconds after an instance's end within which a shutdown of the daemon becomes visible."""


def wait(
    system: System,
    runtime: Runtime,
    report: Callable[[str], None],
    give_up: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until the daemon answers; False when ``give_up`` returned True. ``report`` gets lines."""
    started = system.monotonic()
    reported = started - REPORT_S
    while not runtime.available():
        if give_up():
            return False
        if system.monotonic() - reported >= REPORT_S:
            reported = system.monotonic()
            report(f"{runtime.daemon} does not answer, waiting for {reported - started:.0f} s")
        system.sleep(POLL_S)
    return True


def unavailable(runtime: Runtime, error: RuntimeUnavailableError) -> Diagnostic:
    """Return why the daemon does not answer."""
    return Diagnostic(runtime.daemon, str(error), hint=runtime.check_command, code=runtime.unavailable_code)


def was_restarted(system: System, runtime: Runtime, identity: str) -> bool:
    """Return whether the daemon of that identity stops or was restarted, which ended its instances.

    On its stop dockerd first closes its socket, then stops its containers: this is visible a moment later.
    """
    deadline = system.monotonic() + SHUTDOWN_S
    while system.monotonic() < deadline:
        if not runtime.available() or runtime.daemon_identity() != identity:
            return True
        system.sleep(SHUTDOWN_POLL_S)
    return False
