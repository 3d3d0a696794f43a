"""Three Sparks without a switch: each cable is subnets of its own, and they serve together all the same.

The tests go on from each other's machines.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.names import lab_name
from tests.lab.pairs import LAB, LIMIT_S
from tests.lab.served import RECIPE

pytestmark = pytest.mark.full

NAMES = ("spark-01", "spark-02", "spark-03")
KNOWN_AT = ("192.168.176.1", "192.168.178.2", "192.168.180.3")
"""The one address by which all know a Spark: of its p0."""
Ring = tuple[FleetDirectory, tuple[Machine, ...]]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """A lab of its own, and a fleet with the three in one cluster."""
    docker, lab = Docker(), Lab(Path(__file__).parents[2], lab_name("ring"))
    state = lifecycle.up(docker, lab, len(NAMES), print, warm=True, ring=True)
    fleet = FleetDirectory(tmp_path_factory.mktemp("ring") / "checkout", lab)
    for one in NAMES:
        fleet.host(one, "serve: []\n")
    yield fleet, tuple(Machine(one, lab, state) for one in NAMES)
    lifecycle.down(docker, lab, also_images=False, say=print)


def declare(fleet: FleetDirectory, *hosts: str, serve: dict[str, Any] | None = None) -> None:
    path = fleet.root / "inventories" / "lab" / "clusters" / "ring.yaml"
    path.parent.mkdir(exist_ok=True)
    said = {"hosts": list(hosts or NAMES), "executor": "mp", "fabric": {"ring": True}, "serve": serve}
    path.write_text(yaml.safe_dump(said, sort_keys=False))


def networks(machines: tuple[Machine, ...]) -> list[str]:
    """Return addresses, routes and netplan files, past our own code."""
    return [
        machine.sh(
            "ip -o -4 address | cut -d' ' -f2-7; ip route | sort; cat /etc/netplan/* 2>&1", check=False
        )
        for machine in machines
    ]


def test_cables_that_go_round_the_other_way_are_named_and_everything_goes_back(ring: Ring) -> None:
    fleet, machines = ring
    declare(fleet, "spark-01", "spark-03", "spark-02")
    before = networks(machines)
    seen = fleet.run(deploy="fabric")
    assert seen.code == 1, seen.text
    assert "does not answer over" in seen.text
    assert "a ring is wired spark-01 p0 to spark-03 p1, spark-03 p0 to spark-02 p1" in seen.text
    assert networks(machines) == before


def test_each_is_linked_with_both_others_and_known_to_both_at_one_address(ring: Ring) -> None:
    fleet, machines = ring
    declare(fleet)
    fleet.run(deploy="fabric").expect(0)
    for here, there in permutations(range(3), 2):
        machines[here].sh(f"ping -c 1 -W 2 -M do -s 8972 {KNOWN_AT[there]}")
        shared = here if there == (here + 1) % 3 else there
        for subnet in (176 + 2 * shared, 177 + 2 * shared):
            machines[here].sh(f"ping -c 1 -W 2 -M do -s 8972 192.168.{subnet}.{there + 1}")
    assert fleet.plan().expect(0).out.count("no changes") == 3
    seen = fleet.command("sparkfleet", "fabric", "bench", "inventories/lab.py", "ring", "--seconds", "1")
    rows = [line.split("\t") for line in seen.expect(0).out.splitlines()]
    assert [row[:2] for row in rows if row[3] == "all at once"] == [
        ["spark-01", "spark-02"], ["spark-02", "spark-03"], ["spark-03", "spark-01"],
    ]  # fmt: skip


def test_a_route_that_is_gone_is_shown_and_put_back_and_a_reboot_keeps_it(ring: Ring) -> None:
    fleet, machines = ring
    machines[0].sh("ip route del 192.168.178.2/32")
    (change,) = fleet.changes("spark-01")
    assert change == ("route", "enp1s0f0np0", "", "192.168.178.2 via 192.168.176.2")
    fleet.run(deploy="fabric").expect(0)
    machines[0].reboot()
    assert fleet.plan().expect(0).out.count("no changes") == 3
    machines[0].sh(f"ping -c 1 -W 2 {KNOWN_AT[1]}")


def test_a_ring_with_a_cable_out_is_named(ring: Ring) -> None:
    fleet, machines = ring
    machines[2].break_("cable-out")
    seen = fleet.plan().expect(1)
    machines[2].mend()
    assert (
        "spark-03: fabric: no carrier on enP2p1s0f0np0, enP2p1s0f1np1, enp1s0f0np0, enp1s0f1np1" in seen.out
    )
    assert "spark-03 p0 to spark-01 p1" in seen.out


def test_three_serve_together_over_the_ring_and_come_back_together(ring: Ring) -> None:
    fleet, machines = ring
    service = {"recipe": RECIPE, "name": "wide", "container": LAB, "flags": {"pipeline-parallel-size": 3}}
    declare(fleet, serve=service)
    fleet.lock()
    fleet.run().expect(0)
    serves = "curl -sf --max-time 5 http://127.0.0.1:8000/v1/models"
    assert machines[0].ok(serves)
    for machine, address in zip(machines, KNOWN_AT, strict=True):
        told = machine.sh("docker inspect wide")
        assert f"VLLM_HOST_IP={address}" in told
        assert f'"{KNOWN_AT[0]}"' in told
        assert "NCCL_IB_SUBNET_AWARE_ROUTING=1" in told
    assert fleet.plan().expect(0).out.count("no changes") == 3
    started = "docker inspect -f '{{.State.StartedAt}}' wide"
    before = [machine.sh(started) for machine in machines]
    machines[1].sh("docker kill wide")
    end = time.monotonic() + LIMIT_S
    while any(m.sh(started) == was for m, was in zip(machines, before, strict=True)) or not machines[0].ok(
        serves
    ):
        assert time.monotonic() < end, "\n".join(machine.evidence() for machine in machines)
        time.sleep(0.5)
    assert fleet.plan().expect(0).out.count("no changes") == 3
