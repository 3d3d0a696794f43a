"""What systemd knows of dockerd."""

from __future__ import annotations

from sparkfleet.contract import command
from sparkfleet.runtimes.docker.onhost.names import CONTAINERD, UNIT

LIMIT_S = 180.0


def is_stopping() -> bool:
    """Return whether systemd holds dockerd down, or is about to.

    Nobody may connect then: with socket activation, a request would start a dockerd that was stopped on
    purpose.
    """
    return _systemctl("is-active", UNIT) in {"inactive", "failed", "deactivating"}


def identity() -> str:
    """Return what changes with every start of dockerd or containerd; "" where systemd does not answer."""
    return " ".join(_systemctl("show", "--property=MainPID", "--value", UNIT, CONTAINERD).split())


def _systemctl(*args: str) -> str:
    return command.run(["systemctl", *args], LIMIT_S).out.strip()
