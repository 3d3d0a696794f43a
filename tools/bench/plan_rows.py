"""The rows of the table: the measured commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.bench import fleets, rivals
from tools.bench.fleets import FleetDirectory, python_path
from tools.bench.loopback import Loopback, address
from tools.bench.measure import Command, Row
from tools.bench.relayed_sparks import RelayedSparks
from tools.bench.sparks import BIN, Sparks

PLAN = "sparkfleet plan"
ANSIBLE_ROUNDS = 3
SAME_CORES = "SSH hosts on loopback, on the same cores"
REPLAYED_PROBE = "sparkfleet plan, replayed probe"
REPLAYED = "SSH hosts on loopback, real sshd, replayed probe"


def plan(fleet: FleetDirectory) -> Command:
    """Return ``sparkfleet plan``; it must find nothing to change."""
    return Command((str(BIN / "sparkfleet"), "plan", str(fleet.inventory)), fleet.root)


def dry(fleet: FleetDirectory) -> Command:
    """Return ``pyinfra --dry`` of the project's deploy."""
    args = (str(BIN / "pyinfra"), str(fleet.inventory), "deploys/serve.py", "--dry")
    return Command(args, fleet.root, is_valid=lambda text: "0 to change" in text)


def floor(config: Path, names: Sequence[str]) -> Command:
    """Return the system's ssh running ``true`` on each host, with pyinfra's parallelism."""
    one = f"ssh -F {shlex.quote(str(config))} -o BatchMode=yes {{}} true"
    script = f"printf '%s\\n' {shlex.join(names)} | xargs -P 40 -I{{}} {one}"
    return Command(("sh", "-c", script), config.parent)


def of_sparks(sparks: Sparks, sizes: Sequence[int], lock: Path) -> Iterator[Row]:
    """Yield the rows of the lab's machines."""
    group = "Converged Sparks of the lab"
    config = sparks.lab.ssh_config
    for size in sizes:
        fleet, names = sparks.fleet(size, lock), sparks.names[:size]
        playbook = rivals.ansible(sparks.work / "ansible", fleet, config, names)
        for title, command, rounds in (
            (PLAN, plan(fleet), 0),
            ("pyinfra --dry, this project's deploy", dry(fleet), 0),
            ("pyinfra, one command", rivals.bare(fleet), 0),
            ("pyinfra --dry, stock operations", rivals.stock(fleet), 0),
            ("ansible-playbook --check --diff, tuned, warm", playbook, ANSIBLE_ROUNDS),
            ("ssh HOST true, in parallel", floor(config, names), 0),
        ):
            yield Row(group, title, size, command, rounds)
        if size == sizes[1]:
            playbook = rivals.ansible(sparks.work / "ansible", fleet, config, names, as_default=True)
            yield Row(group, "ansible-playbook --check --diff, default settings", size, playbook, 2)


def of_loopback(hosts: Loopback, sizes: Sequence[int]) -> Iterator[Row]:
    """Yield the rows of SSH hosts on loopback addresses."""
    group = SAME_CORES
    hosts.fleet(1)
    for size in sizes:
        fleet = hosts.fleet(size)
        names = [address(number) for number in range(1, size + 1)]
        yield Row(group, PLAN, size, plan(fleet))
        if size in (sizes[0], *sizes[-3::2]):
            yield Row(group, "pyinfra, one command", size, rivals.bare(fleet))
            yield Row(group, "ssh HOST true, in parallel", size, floor(hosts.ssh_config(), names))


def of_both_sides(hosts: Loopback, size: int) -> Iterator[tuple[str, Command]]:
    """Yield the commands that are measured on both sides, for a number of hosts on loopback."""
    fleet = hosts.fleet(size)
    yield PLAN, plan(fleet)
    yield "pyinfra, one command", rivals.bare(fleet)
    yield "ssh HOST true", floor(hosts.ssh_config(), [address(number) for number in range(1, size + 1)])


def of_played_back(hosts: Loopback, sizes: Sequence[int], recording: Path) -> Iterator[Row]:
    """Yield the rows of hosts on loopback with a replayed probe."""
    hosts.play_back(recording)
    for size in sizes:
        yield Row(REPLAYED, PLAN, size, plan(hosts.fleet(size)))


def of_far(relayed_sparks: RelayedSparks, delay_ms: int, sizes: Sequence[int], lock: Path) -> Iterator[Row]:
    """Yield the rows of machines behind a relay."""
    group = f"Sparks of the lab, {delay_ms} ms round trip"
    for size in sizes:
        fleet, names = relayed_sparks.fleet(size, lock), relayed_sparks.sparks.names[:size]
        yield Row(group, PLAN, size, plan(fleet))
        yield Row(group, "pyinfra --dry, stock operations", size, rivals.stock(fleet))
        playbook = rivals.ansible(relayed_sparks.sparks.work / "ansible", fleet, relayed_sparks.config, names)
        yield Row(group, "ansible-playbook --check --diff, tuned, warm", size, playbook, ANSIBLE_ROUNDS)


def of_local_commands(work: Path, sizes: Sequence[int], group_data: str, lock: Path) -> Iterator[Row]:
    """Yield the rows of commands that contact no host."""
    python = str(BIN / "python")
    group = "Without hosts"
    for title, args in (
        ("python3 -c pass", (python, "-c", "pass")),
        ("import sparkfleet.cli", (python, "-c", "import sparkfleet.cli")),
        ("sparkfleet --help", (str(BIN / "sparkfleet"), "--help")),
    ):
        yield Row(group, title, 0, Command(args, work))
    for size in sizes:
        fleet = fleets.make(work / f"check-{size}", dict(fleets.varied_hosts(size)), group_data, lock)
        args = (str(BIN / "sparkfleet"), "check", str(fleet.inventory))
        yield Row(group, "sparkfleet check, all hosts different", size, Command(args, fleet.root))


def of_recorded(hosts: Loopback, sizes: Sequence[int], recording: Path) -> Iterator[Row]:
    """Yield the rows of recorded Sparks."""
    for size in sizes:
        fleet = hosts.fleet(size)
        args = (str(BIN / "python"), "-m", "tools.bench.simulate", str(fleet.inventory), str(recording))
        command = Command(args, fleet.root, (("PYTHONPATH", python_path()),))
        yield Row("Recorded Sparks, without SSH", PLAN, size, command)
