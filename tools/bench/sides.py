"""CPU of controller and hosts for a plan of many hosts, where both run on the same cores.

Wall time does not distinguish them.
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
class CpuShares:
    """CPU in seconds (medians), and the number of connections and commands."""

    controller_s: float
    hosts_s: float
    connections: int
    commands: int


def measure_cpu(command: Command, hosts: Loopback) -> CpuShares:
    """Run a command several times and return the CPU of both sides."""
    controller, hosts_cpu = [], []
    before = hosts.logins()
    for _ in range(ROUNDS):
        began = hosts.cpu_s()
        controller.append(run(command).cpu_s)
        time.sleep(SETTLE_S)
        hosts_cpu.append(hosts.cpu_s() - began)
    after = hosts.logins()
    counts = [(later - earlier) // ROUNDS for later, earlier in zip(after, before, strict=True)]
    return CpuShares(median(controller), median(hosts_cpu), *counts)


def describe(measured: Mapping[str, CpuShares], size: int) -> list[str]:
    """Return the results as text, per host, since hosts of a real fleet have their own CPU."""
    rows = [
        f"{title} {sides.controller_s / size * 1000:.1f} ms on the controller and "
        f"{sides.hosts_s / size * 1000:.1f} ms on the host"
        for title, sides in measured.items()
    ]
    plan = next(iter(measured.values()))
    return [
        f"CPU per host of {size} on loopback: {'; '.join(rows)}",
        f"a plan of {size} hosts: {plan.connections} connections, {plan.commands} remote commands",
    ]
