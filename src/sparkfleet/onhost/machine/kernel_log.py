"""The kernel's log of a period."""

from __future__ import annotations

import re

from sparkfleet.onhost.machine.system import System

MAX_LINES = 2000
SLACK_S = 60.0
"""How far the clock of the kernel's log and the monotonic clock may be apart."""
_STAMP = re.compile(r"\[ *(\d+\.\d+)\]")


def since(system: System, started: float) -> str:
    """Return the kernel's log since ``started`` (``System.monotonic``); "" when it cannot be read."""
    lines = system.run(("dmesg",)).out.splitlines()[-MAX_LINES:]
    recent = [
        line for line in lines if (stamp := _STAMP.match(line)) and float(stamp[1]) >= started - SLACK_S
    ]
    return "\n".join(recent)
