"""The lab's Sparks behind a relay, which adds latency and counts bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench import fleets
from tools.bench.fleets import ROOT, FleetDirectory
from tools.bench.measure import Command, run
from tools.bench.sparks import Sparks
from tools.bench.table import Count

from sparkfleet_lab.lifecycle import free_port


@dataclass
class RelayedSparks:
    """Sparks behind a relay."""

    sparks: Sparks
    config: Path
    """The ssh_config that connects through the relay."""
    traffic: dict[str, int] = field(default_factory=dict)
    """After the end: bytes up and down, and connections."""

    def fleet(self, count: int, lock: Path) -> FleetDirectory:
        """Return a fleet of the first machines, reached through the relay."""
        known = self.config.with_suffix(".known_hosts")
        text = self.sparks.group_data
        text += f"ssh_config_file = {str(self.config)!r}\nssh_known_hosts_file = {str(known)!r}\n"
        files = {name: fleets.serving_host_file() for name in self.sparks.names[:count]}
        return fleets.make(self.sparks.work / f"{self.config.stem}-{count}", files, text, lock)


@contextmanager
def relayed(sparks: Sparks, delay_ms: int) -> Iterator[RelayedSparks]:
    """Relay the machines' SSH ports with an additional round-trip time in milliseconds."""
    ports = {machine.ssh_port: free_port() for machine in sparks.state.machines}
    relayed_sparks = RelayedSparks(
        sparks, sparks.ssh_config_with(ports, sparks.work / f"far-{delay_ms}.ssh_config")
    )
    pairs = [f"{near_port}:{port}" for port, near_port in ports.items()]
    relay = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.link", str(delay_ms), *pairs],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None  # noqa: S101  (it is a pipe)
    try:
        relay.stdout.readline()
        yield relayed_sparks
    finally:
        relay.terminate()
        relayed_sparks.traffic = json.loads(relay.stdout.read() or "{}")
        relay.wait()
        relay.stdout.close()


def count(
    sparks: Sparks, title: str, hosts: int, command_for: Callable[[RelayedSparks], Command], warm: bool
) -> Count:
    """Return the traffic of a run of a command per host; ``warm``: of a second run, over open connections."""
    with relayed(sparks, 0) as relayed_sparks:
        command = command_for(relayed_sparks)
        before_first = sparks.logins()
        run(command)
        before = sparks.logins() if warm else before_first
        if warm:
            run(command)
        after = sparks.logins()
    runs = 2 if warm else 1
    return Count(
        title,
        (after[0] - before[0]) / hosts,
        (after[1] - before[1]) / hosts,
        relayed_sparks.traffic["up"] / hosts / 1024 / runs,
        relayed_sparks.traffic["down"] / hosts / 1024 / runs,
    )
