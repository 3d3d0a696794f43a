"""The links between Sparks on lab machines: configured, verified, reverted without help, removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.serving_fleet import reset_machines

NETPLAN = "/etc/netplan/60-sparkfleet-fabric.yaml"
TWINS = ("enp1s0f1np1", "enP2p1s0f1np1")
CLUSTER = "hosts: [spark-01, spark-02]\nexecutor: mp\n"
Pair = tuple[FleetDirectory, Machine, Machine]


def cluster(fleet: FleetDirectory, text: str | None = CLUSTER) -> None:
    path = fleet.root / "inventories" / "lab" / "clusters" / "pair.yaml"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if text:
        path.write_text(text)


@pytest.fixture(scope="module")
def pair(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two Sparks with a cable and without addresses on it; each test starts from the previous one's state."""
    first, second = reset_machines(lab, lab_state, "spark-01", "spark-02")
    for machine in (first, second):
        machine.sh("; ".join(f"ip address flush dev {twin}; ip link set {twin} mtu 1500" for twin in TWINS))
    fleet = FleetDirectory(tmp_path_factory.mktemp("fabric") / "checkout", lab)
    for name in ("spark-01", "spark-02"):
        fleet.host(name, "serve: []\n")
    cluster(fleet)
    yield fleet, first, second
    for machine in (first, second):
        machine.reset()


def network(machine: Machine) -> tuple[dict[str, str], str, str]:
    """Return addresses by netdev, routes and netplan files, read without our own code."""
    found: dict[str, list[str]] = {}
    for line in machine.sh("ip -o -4 address show").splitlines():
        found.setdefault(line.split()[1], []).append(line.split()[3])
    addresses = {name: " ".join(found[name]) for name in found}
    return (
        addresses,
        machine.sh("ip route | sort"),
        machine.sh("cd /etc/netplan; md5sum * 2>/dev/null", check=False),
    )


def test_conflicts_are_named_and_nothing_is_changed(pair: Pair) -> None:
    fleet, first, second = pair
    first.break_("foreign-netplan")
    second.break_("cable-out")
    before = network(first), network(second)
    outcome = fleet.run(deploy="fabric")
    assert outcome.code != 0, outcome.text
    assert "/etc/netplan/40-cx7.yaml: a file of NVIDIA's playbook for two Sparks" in outcome.text
    assert "spark-02: fabric: no carrier on " in outcome.text
    assert (network(first), network(second)) == before
    first.repair()
    second.repair()


def test_a_plan_leaves_no_trace_even_where_it_probes_addresses(pair: Pair) -> None:
    fleet, first, second = pair
    written = (
        "find /etc /run/netplan /run/systemd /usr/local /var/lib/sparkfleet -printf '%p %T@ %s\n' | sort"
    )
    state = f"ip -o link; ip neighbour | grep -v 'dev eth0'; {written}"
    before = [(network(machine), machine.sh(state, check=False)) for machine in (first, second)]
    outcome = fleet.plan().expect(2)
    assert "+ address     enP2p1s0f1np1 192.168.177.2/24   rail 1, cage p1" in outcome.out
    assert [(network(machine), machine.sh(state, check=False)) for machine in (first, second)] == before


def test_an_address_in_use_is_not_assigned(pair: Pair) -> None:
    fleet, _, second = pair
    second.sh(f"ip address add 192.168.176.1/24 dev {TWINS[0]}")
    outcome = fleet.plan("--limit", "spark-01").expect(1)
    assert "192.168.176.1 is in use: 02:42:" in outcome.text
    second.sh(f"ip address del 192.168.176.1/24 dev {TWINS[0]}")


def test_a_lost_management_address_returns_without_help_and_both_sparks_are_reverted(
    pair: Pair,
) -> None:
    fleet, first, second = pair
    before = network(first), network(second)
    first.break_("management-lost")
    outcome = fleet.run(deploy="fabric")
    first.repair()
    assert outcome.code != 0, outcome.text
    assert "the management network was lost: eth0 lost" in outcome.text
    assert "spark-01, at the other end, could not be configured" in outcome.text
    assert (network(first), network(second)) == before


@pytest.mark.provokes("fabric-change-failed")
def test_a_smaller_mtu_on_the_path_is_named_and_everything_is_reverted(pair: Pair) -> None:
    fleet, first, second = pair
    before = network(first), network(second)
    second.break_("small-mtu")
    outcome = fleet.run(deploy="fabric")
    second.repair()
    assert outcome.code != 0, outcome.text
    assert "not to packets of 9000 bytes: the MTU is smaller" in outcome.text
    assert (network(first), network(second)) == before


@pytest.fixture
def running(pair: Pair) -> Iterator[subprocess.Popen[str]]:
    """A run of deploys/fabric.py that has begun to change the first Spark's links."""
    fleet, first, _ = pair
    started = "ls -d /var/lib/sparkfleet/fabric/fabric-* 2>/dev/null | wc -l"
    before = first.sh(started)
    run = fleet.start("pyinfra", "inventories/lab.py", "deploys/fabric.py", "-y")
    first.sh(f"timeout 60 sh -c 'until [ $({started}) -gt {before} ]; do sleep 0.05; done'")
    yield run
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


def test_a_cable_that_is_pulled_during_a_run_is_named_and_everything_is_reverted(
    pair: Pair, running: subprocess.Popen[str]
) -> None:
    _, first, second = pair
    second.break_("cable-out")
    output, _ = running.communicate(timeout=120)
    second.repair()
    assert running.returncode != 0, output
    assert f"{TWINS[1]} has no carrier" in output or f"{TWINS[0]} has no carrier" in output
    for machine in (first, second):
        assert set(network(machine)[0]) == {"lo", "docker0", "eth0"}
        assert network(machine)[2] == ""


@pytest.mark.full
def test_without_its_operator_a_spark_reverts_its_links(pair: Pair, running: subprocess.Popen[str]) -> None:
    fleet, first, second = pair
    os.killpg(running.pid, signal.SIGKILL)
    for machine in (first, second):
        ended = "for d in /var/lib/sparkfleet/fabric/fabric-*; do [ -e $d/result.json ] || exit 1; done"
        machine.sh(f"timeout 90 sh -c 'until ({ended}); do sleep 1; done'")
        assert set(network(machine)[0]) == {"lo", "docker0", "eth0"}
        assert network(machine)[2] == ""
    assert "the operator did not open a new connection" in first.sh(
        "cat /var/lib/sparkfleet/fabric/*/result.json"
    )
    assert "+ address" in fleet.plan().expect(2).out


def test_sparks_with_the_cable_in_different_cages_are_linked_and_a_second_plan_is_empty(pair: Pair) -> None:
    fleet, first, second = pair
    second.break_("other-cage")
    management = network(first)[0]["eth0"], network(second)[0]["eth0"]
    fleet.run(deploy="fabric").expect(0)
    addresses = network(first)[0], network(second)[0]
    assert (addresses[0]["enp1s0f1np1"], addresses[0]["enP2p1s0f1np1"]) == (
        "192.168.176.1/24",
        "192.168.177.1/24",
    )
    assert (addresses[1]["enp1s0f0np0"], addresses[1]["enP2p1s0f0np0"]) == (
        "192.168.176.2/24",
        "192.168.177.2/24",
    )
    assert (addresses[0]["eth0"], addresses[1]["eth0"]) == management
    for link, address in zip(TWINS, ("192.168.176.2", "192.168.177.2"), strict=True):
        first.sh(f"ping -c 1 -W 2 -M do -s 8972 -I {link} {address}")
    assert first.sh(f"stat -c '%a %U' {NETPLAN}") == "600 root"
    assert "fabric-pair.json" in second.sh("ls /var/lib/sparkfleet/evidence")
    assert fleet.plan().expect(0).out.count("no changes") == 2


def test_links_are_measured_one_by_one_and_all_at_once(pair: Pair) -> None:
    fleet, first, _ = pair
    outcome = fleet.command("sparkfleet", "fabric", "bench", "inventories/lab.py", "pair", "--seconds", "1")
    rows = [line.split("\t") for line in outcome.expect(0).out.splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["spark-01", "spark-02", "stream", link] for link in (*TWINS, "all at once")
    ]
    assert all(float(row[4]) > 0 for row in rows)
    stored = json.loads(first.sh("cat /var/lib/sparkfleet/evidence/bench-pair-spark-02.json"))
    assert f"{stored['alone'][0]['gbits']:.1f}" == rows[0][4]
    assert not first.ok("systemctl list-units --all 'sparkfleet-bench-*' --no-legend | grep .")


def test_the_links_are_configured_after_a_reboot(pair: Pair) -> None:
    fleet, first, second = pair
    second.reboot()
    assert fleet.plan().expect(0).out.count("no changes") == 2
    first.sh(f"ping -c 1 -W 5 -M do -s 8972 -I {TWINS[0]} 192.168.176.2")


def test_manual_changes_are_listed_and_reverted(pair: Pair) -> None:
    fleet, first, _ = pair
    first.sh(f"ip link set {TWINS[1]} mtu 1500; ip address del 192.168.176.1/24 dev {TWINS[0]}")
    assert fleet.changes("spark-01") == [
        ("address", TWINS[0], "", "192.168.176.1/24"),
        ("mtu", TWINS[1], "1500", "9000"),
    ]
    fleet.run(deploy="fabric").expect(0)
    assert fleet.plan().expect(0).out.count("no changes") == 2


def test_a_cluster_that_is_no_longer_declared_is_reverted_and_nothing_else(pair: Pair) -> None:
    fleet, first, second = pair
    cluster(fleet, None)
    assert fleet.changes("spark-01") == [("netplan", "", NETPLAN, "")]
    fleet.run(deploy="fabric").expect(0)
    for machine in (first, second):
        addresses, _, files = network(machine)
        assert set(addresses) == {"lo", "docker0", "eth0"}
        assert "sparkfleet" not in files
    assert first.sh(f"cat /sys/class/net/{TWINS[0]}/mtu") == "1500"
    assert fleet.plan().expect(0).out.count("no changes") == 2
    cluster(fleet)
