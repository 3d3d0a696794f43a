"""The lab's Sparks behind a relay: a longer way, and how many bytes go over it."""

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
class Far:
    """Machines behind a relay."""

    sparks: Sparks
    config: Path
    """The ssh_config that goes through it."""
    carried: dict[str, int] = field(default_factory=dict)
    """After the end: bytes up and down, connections."""

    def fleet(self, count: int, lock: Path) -> FleetDirectory:
        """Return a fleet of the first machines, reached through the relay."""
        known = self.config.with_suffix(".known_hosts")
        text = self.sparks.group_data
        text += f"ssh_config_file = {str(self.config)!r}\nssh_known_hosts_file = {str(known)!r}\n"
        files = {name: fleets.serving() for name in self.sparks.names[:count]}
        return fleets.make(self.sparks.work / f"{self.config.stem}-{count}", files, text, lock)


@contextmanager
def away(sparks: Sparks, delay_ms: int) -> Iterator[Far]:
    """Have the machines behind a round trip of so many milliseconds."""
    ports = {machine.ssh_port: free_port() for machine in sparks.state.machines}
    far = Far(sparks, sparks.ssh_config_with(ports, sparks.work / f"far-{delay_ms}.ssh_config"))
    pairs = [f"{near}:{port}" for port, near in ports.items()]
    relay = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.link", str(delay_ms), *pairs],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None  # noqa: S101  (it is a pipe)
    try:
        relay.stdout.readline()
        yield far
    finally:
        relay.terminate()
        far.carried = json.loads(relay.stdout.read() or "{}")
        relay.wait()
        relay.stdout.close()


def count(sparks: Sparks, title: str, hosts: int, made: Callable[[Far], Command], warm: bool) -> Count:
    """Return what one run of a command sends to each host; ``warm``: a second run, over open connections."""
    with away(sparks, 0) as far:
        command = made(far)
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
        far.carried["up"] / hosts / 1024 / runs,
        far.carried["down"] / hosts / 1024 / runs,
    )
