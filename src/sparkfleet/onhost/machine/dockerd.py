"""Waiting for dockerd, as long as it takes: who gives up leaves an engine down when dockerd comes back."""

from __future__ import annotations

from collections.abc import Callable

from sparkfleet.onhost.machine.system import DockerGoneError, System, systemctl

POLL_S = 1.0
TELL_S = 30.0


def wanted_down(system: System) -> bool:
    """Return whether systemd holds dockerd down, or is about to.

    Nobody may knock then: with socket activation, our question alone would start a dockerd that was stopped
    on purpose.
    """
    state = systemctl(system, "is-active", "docker.service").out.strip()
    return state in {"inactive", "failed", "deactivating"}


def identity(system: System) -> str:
    """Return what changes with every start of dockerd; "" where systemd does not run it."""
    return systemctl(system, "show", "--property=MainPID", "--value", "docker.service").out.strip()


def answers(system: System) -> bool:
    """Return whether dockerd answers now."""
    if wanted_down(system):
        return False
    try:
        system.docker.ping()
    except DockerGoneError:
        return False
    return True


def wait(system: System, tell: Callable[[str], None], give_up: Callable[[], bool] = lambda: False) -> bool:
    """Wait until dockerd answers; False when ``give_up`` said so. ``tell`` hears of a long wait."""
    started = system.monotonic()
    told = started - TELL_S
    while not answers(system):
        if give_up():
            return False
        if system.monotonic() - told >= TELL_S:
            told = system.monotonic()
            tell(f"dockerd does not answer, waiting for {told - started:.0f} s")
        system.sleep(POLL_S)
    return True
