"""Three Sparks in a ring without a switch: each cable has subnets of its own, and they serve one model.

Each test starts from the state that the previous one left.
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
from tests.lab.serving_fleet import RECIPE

pytestmark = pytest.mark.full

NAMES = ("spark-01", "spark-02", "spark-03")
ADDRESSES = ("192.168.176.1", "192.168.178.2", "192.168.180.3")
"""The one address that all use for a Spark: that of its p0."""
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
    lifecycle.down(docker, lab, also_images=False, report=print)


def declare(fleet: FleetDirectory, *hosts: str, serve: dict[str, Any] | None = None) -> None:
    path = fleet.root / "inventories" / "lab" / "clusters" / "ring.yaml"
    path.parent.mkdir(exist_ok=True)
    cluster = {"hosts": list(hosts or NAMES), "executor": "mp", "fabric": {"ring": True}, "serve": serve}
    path.write_text(yaml.safe_dump(cluster, sort_keys=False))


def networks(machines: tuple[Machine, ...]) -> list[str]:
    """Return addresses, routes and netplan files, read without our own code."""
    return [
        machine.sh(
            "ip -o -4 address | cut -d' ' -f2-7; ip route | sort; cat /etc/netplan/* 2>&1", check=False
        )
        for machine in machines
    ]


def test_cables_in_the_other_order_are_named_and_everything_is_reverted(ring: Ring) -> None:
    fleet, machines = ring
    declare(fleet, "spark-01", "spark-03", "spark-02")
    before = networks(machines)
    outcome = fleet.run(deploy="fabric")
    assert outcome.code == 1, outcome.text
    assert "does not answer over" in outcome.text
    assert "a ring is wired spark-01 p0 to spark-03 p1, spark-03 p0 to spark-02 p1" in outcome.text
    assert networks(machines) == before


def test_each_is_linked_with_both_others_which_use_one_address_for_it(ring: Ring) -> None:
    fleet, machines = ring
    declare(fleet)
    fleet.run(deploy="fabric").expect(0)
    for source, target in permutations(range(3), 2):
        machines[source].sh(f"ping -c 1 -W 2 -M do -s 8972 {ADDRESSES[target]}")
        shared = source if target == (source + 1) % 3 else target
        for subnet in (176 + 2 * shared, 177 + 2 * shared):
            machines[source].sh(f"ping -c 1 -W 2 -M do -s 8972 192.168.{subnet}.{target + 1}")
    assert fleet.plan().expect(0).out.count("no changes") == 3
    outcome = fleet.command("sparkfleet", "fabric", "bench", "inventories/lab.py", "ring", "--seconds", "1")
    rows = [line.split("\t") for line in outcome.expect(0).out.splitlines()]
    assert [row[:2] for row in rows if row[3] == "all at once"] == [
        ["spark-01", "spark-02"], ["spark-02", "spark-03"], ["spark-03", "spark-01"],
    ]  # fmt: skip


def test_a_missing_route_is_listed_and_restored_and_survives_a_reboot(ring: Ring) -> None:
    fleet, machines = ring
    machines[0].sh("ip route del 192.168.178.2/32")
    (change,) = fleet.changes("spark-01")
    assert change == ("route", "enp1s0f0np0", "", "192.168.178.2 via 192.168.176.2")
    fleet.run(deploy="fabric").expect(0)
    machines[0].reboot()
    assert fleet.plan().expect(0).out.count("no changes") == 3
    machines[0].sh(f"ping -c 1 -W 2 {ADDRESSES[1]}")


def test_a_ring_with_a_cable_out_is_named(ring: Ring) -> None:
    fleet, machines = ring
    machines[2].break_("cable-out")
    outcome = fleet.plan().expect(1)
    machines[2].repair()
    assert (
        "spark-03: fabric: no carrier on enP2p1s0f0np0, enP2p1s0f1np1, enp1s0f0np0, enp1s0f1np1"
        in outcome.out
    )
    assert "spark-03 p0 to spark-01 p1" in outcome.out


def test_three_serve_one_model_over_the_ring_and_restart_after_a_kill(ring: Ring) -> None:
    fleet, machines = ring
    service = {"recipe": RECIPE, "name": "wide", "container": LAB, "flags": {"pipeline-parallel-size": 3}}
    declare(fleet, serve=service)
    fleet.lock()
    fleet.run().expect(0)
    serves = "curl -sf --max-time 5 http://127.0.0.1:8000/v1/models"
    assert machines[0].ok(serves)
    for machine, address in zip(machines, ADDRESSES, strict=True):
        container = machine.sh("docker inspect wide")
        assert f"VLLM_HOST_IP={address}" in container
        assert f'"{ADDRESSES[0]}"' in container
        assert "NCCL_IB_SUBNET_AWARE_ROUTING=1" in container
    assert fleet.plan().expect(0).out.count("no changes") == 3
    started = "docker inspect -f '{{.State.StartedAt}}' wide"
    before = [machine.sh(started) for machine in machines]
    machines[1].sh("docker kill wide")
    end = time.monotonic() + LIMIT_S
    while any(m.sh(started) == earlier for m, earlier in zip(machines, before, strict=True)) or not machines[
        0
    ].ok(serves):
        assert time.monotonic() < end, "\n".join(machine.evidence() for machine in machines)
        time.sleep(0.5)
    assert fleet.plan().expect(0).out.count("no changes") == 3
