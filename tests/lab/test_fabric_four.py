"""Four Sparks at a switch: each one is linked with every other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import read_state
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.names import lab_name

NAMES = ("spark-01", "spark-02", "spark-03", "spark-04")
Four = tuple[FleetDirectory, tuple[Machine, ...]]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Four]:
    """A lab of its own with four Sparks in one cluster."""
    docker, lab = Docker(), Lab(Path(__file__).parents[2], lab_name("four"))
    lifecycle.up(docker, lab, len(NAMES), print)
    state = read_state(lab)
    assert state is not None
    fleet = FleetDirectory(tmp_path_factory.mktemp("four") / "checkout", lab)
    for one in NAMES:
        fleet.host(one, "serve: []\n")
    clusters = fleet.root / "inventories" / "lab" / "clusters"
    clusters.mkdir()
    (clusters / "four.yaml").write_text(f"hosts: [{', '.join(NAMES)}]\nexecutor: ray\n")
    yield fleet, tuple(Machine(one, lab, state) for one in NAMES)
    lifecycle.down(docker, lab, also_images=False, report=print)


@pytest.mark.full
def test_four_sparks_are_linked_each_with_every_other_and_a_second_plan_is_empty(four: Four) -> None:
    fleet, machines = four
    machines[2].break_("other-cage")
    fleet.run(deploy="fabric").expect(0)
    for source, target in permutations(range(4), 2):
        for rail in range(2):
            machines[source].sh(f"ping -c 1 -W 2 -M do -s 8972 192.168.{176 + rail}.{target + 1}")
    assert fleet.plan().expect(0).out.count("no changes") == 4
    outcome = fleet.command("sparkfleet", "fabric", "bench", "inventories/lab.py", "four", "--seconds", "1")
    pairs = dict.fromkeys(tuple(line.split("\t")[:2]) for line in outcome.expect(0).out.splitlines()[1:])
    assert list(pairs) == [(NAMES[n], NAMES[(n + 1) % 4]) for n in range(4)]


@pytest.mark.full
def test_one_whose_cable_is_out_is_named_and_the_other_three_stay_linked(four: Four) -> None:
    fleet, machines = four
    machines[3].break_("cable-out")
    outcome = fleet.plan().expect(1)
    assert outcome.out.count("no changes") == 3
    assert "spark-04: fabric: no carrier on" in outcome.out
    machines[0].sh("ping -c 1 -W 2 192.168.176.2")
    machines[3].repair()
    assert fleet.plan().expect(0).out.count("no changes") == 4
