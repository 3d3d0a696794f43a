"""Whose CPU a plan of many hosts takes, where both sides run on these cores: the controller's, or the hosts'.

Wall time there is the sum of both over the cores, and says little of either.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from tools.bench.loopback import Loopback
from tools.bench.measure import Command, run

ROUNDS = 3
SETTLE_S = 0.5
"""Seconds until the servers of closed connections have ended."""


@dataclass(frozen=True)
class Sides:
    """CPU in seconds, medians; and how often the hosts were logged in to and asked."""

    here_s: float
    theirs_s: float
    connections: int
    commands: int


def of(command: Command, hosts: Loopback) -> Sides:
    """Run a command some times and return whose CPU it took."""
    here, theirs = [], []
    before = hosts.logins()
    for _ in range(ROUNDS):
        began = hosts.cpu_s()
        here.append(run(command).cpu_s)
        time.sleep(SETTLE_S)
        theirs.append(hosts.cpu_s() - began)
    after = hosts.logins()
    counts = [(now - then) // ROUNDS for now, then in zip(after, before, strict=True)]
    return Sides(median(here), median(theirs), *counts)


def said(measured: Mapping[str, Sides], size: int) -> list[str]:
    """Return what was measured, for people: per host, since each of a real fleet pays its own."""
    rows = [
        f"{title} {sides.here_s / size * 1000:.1f} ms here and {sides.theirs_s / size * 1000:.1f} ms there"
        for title, sides in measured.items()
    ]
    plan = next(iter(measured.values()))
    return [
        f"CPU per host of {size} on loopback: {'; '.join(rows)}",
        f"a plan of {size} hosts: {plan.connections} connections, {plan.commands} remote commands",
    ]
