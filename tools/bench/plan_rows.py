"""Which commands are measured: the rows of the table."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.bench import fleets, rivals
from tools.bench.far import Far
from tools.bench.fleets import FleetDirectory, python_path
from tools.bench.loopback import Loopback, address
from tools.bench.measure import Command, Row
from tools.bench.sparks import BIN, Sparks

PLAN = "sparkfleet plan"
ANSIBLE_ROUNDS = 3
SAME_CORES = "SSH hosts on loopback, their side on the same cores"
PLAYED = "sparkfleet plan, the probe played back"
PLAYED_BACK = "SSH hosts on loopback, sshd real, the probe played back"


def plan(fleet: FleetDirectory) -> Command:
    """Return ``sparkfleet plan``; it must find nothing to change."""
    return Command((str(BIN / "sparkfleet"), "plan", str(fleet.inventory)), fleet.root)


def dry(fleet: FleetDirectory) -> Command:
    """Return ``pyinfra --dry`` of the project's deploy."""
    words = (str(BIN / "pyinfra"), str(fleet.inventory), "deploys/serve.py", "--dry")
    return Command(words, fleet.root, proves=lambda text: "0 to change" in text)


def floor(config: Path, names: Sequence[str]) -> Command:
    """Return the system's ssh running ``true`` on each host, as many at once as pyinfra takes."""
    one = f"ssh -F {shlex.quote(str(config))} -o BatchMode=yes {{}} true"
    script = f"printf '%s\\n' {shlex.join(names)} | xargs -P 40 -I{{}} {one}"
    return Command(("sh", "-c", script), config.parent)


def of_sparks(sparks: Sparks, sizes: Sequence[int], lock: Path) -> Iterator[Row]:
    """Yield the rows of the lab's machines."""
    group = "Converged Sparks of the lab"
    config = sparks.lab.ssh_config
    for size in sizes:
        fleet, names = sparks.fleet(size, lock), sparks.names[:size]
        book = rivals.ansible(sparks.work / "ansible", fleet, config, names)
        for title, command, rounds in (
            (PLAN, plan(fleet), 0),
            ("pyinfra --dry, this project's deploy", dry(fleet), 0),
            ("pyinfra, one command and nothing else", rivals.bare(fleet), 0),
            ("pyinfra --dry, stock operations", rivals.stock(fleet), 0),
            ("ansible-playbook --check --diff, tuned, warm", book, ANSIBLE_ROUNDS),
            ("ssh HOST true, in parallel", floor(config, names), 0),
        ):
            yield Row(group, title, size, command, rounds)
        if size == sizes[1]:
            book = rivals.ansible(sparks.work / "ansible", fleet, config, names, gather=True)
            yield Row(group, "ansible-playbook --check --diff, as it comes", size, book, 2)


def of_loopback(hosts: Loopback, sizes: Sequence[int]) -> Iterator[Row]:
    """Yield the rows of SSH hosts on loopback addresses."""
    group = SAME_CORES
    hosts.fleet(1)
    for size in sizes:
        fleet = hosts.fleet(size)
        names = [address(number) for number in range(1, size + 1)]
        yield Row(group, PLAN, size, plan(fleet))
        if size in (sizes[0], *sizes[-3::2]):
            yield Row(group, "pyinfra, one command and nothing else", size, rivals.bare(fleet))
            yield Row(group, "ssh HOST true, in parallel", size, floor(hosts.ssh_config(), names))


def of_both_sides(hosts: Loopback, size: int) -> Iterator[tuple[str, Command]]:
    """Yield what is measured on both sides of so many hosts on loopback."""
    fleet = hosts.fleet(size)
    yield PLAN, plan(fleet)
    yield "pyinfra, one command", rivals.bare(fleet)
    yield "ssh HOST true", floor(hosts.ssh_config(), [address(number) for number in range(1, size + 1)])


def of_played_back(hosts: Loopback, sizes: Sequence[int], answer: Path) -> Iterator[Row]:
    """Yield the rows of hosts on loopback whose look costs nothing here."""
    hosts.play_back(answer)
    for size in sizes:
        yield Row(PLAYED_BACK, PLAN, size, plan(hosts.fleet(size)))


def of_far(far: Far, delay_ms: int, sizes: Sequence[int], lock: Path) -> Iterator[Row]:
    """Yield the rows of machines that are far away."""
    group = f"Sparks of the lab, {delay_ms} ms away"
    for size in sizes:
        fleet, names = far.fleet(size, lock), far.sparks.names[:size]
        yield Row(group, PLAN, size, plan(fleet))
        yield Row(group, "pyinfra --dry, stock operations", size, rivals.stock(fleet))
        book = rivals.ansible(far.sparks.work / "ansible", fleet, far.config, names)
        yield Row(group, "ansible-playbook --check --diff, tuned, warm", size, book, ANSIBLE_ROUNDS)


def of_here(work: Path, sizes: Sequence[int], group_data: str, lock: Path) -> Iterator[Row]:
    """Yield the rows of commands that ask no host."""
    python = str(BIN / "python")
    group = "Without any host"
    for title, words in (
        ("python3 -c pass", (python, "-c", "pass")),
        ("import sparkfleet.cli", (python, "-c", "import sparkfleet.cli")),
        ("sparkfleet --help", (str(BIN / "sparkfleet"), "--help")),
    ):
        yield Row(group, title, 0, Command(words, work))
    for size in sizes:
        fleet = fleets.make(work / f"check-{size}", dict(fleets.varied(size)), group_data, lock)
        words = (str(BIN / "sparkfleet"), "check", str(fleet.inventory))
        yield Row(group, "sparkfleet check, no two hosts alike", size, Command(words, fleet.root))


def of_recorded(hosts: Loopback, sizes: Sequence[int], answer: Path) -> Iterator[Row]:
    """Yield the rows of Sparks that answer from a recording."""
    for size in sizes:
        fleet = hosts.fleet(size)
        words = (str(BIN / "python"), "-m", "tools.bench.simulate", str(fleet.inventory), str(answer))
        command = Command(words, fleet.root, (("PYTHONPATH", python_path()),))
        yield Row("Sparks that answer from a recording (no SSH)", PLAN, size, command)
