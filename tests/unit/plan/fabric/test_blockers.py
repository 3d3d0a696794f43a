"""What stands in the way of links is named, with the way out; and nothing is done then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.fabric import blockers
from sparkfleet.plan.fabric.addresses import rails
from sparkfleet.probe.links import AddressOwner, NetworkFile, ObservedFabric
from tests.unit.plan.fabric.fabric_fixtures import cage, member, seen

FIRST, SECOND = "enp1s0f1np1", "enP2p1s0f1np1"


def obstacle(fabric: ObservedFabric, **declared: Any) -> Diagnostic | None:
    mine = member(0, **declared)
    return blockers.obstacle("spark-01", mine, fabric, rails(mine, fabric))


def test_a_spark_with_a_cable_and_rdma_has_nothing_in_the_way() -> None:
    assert obstacle(seen()) is None


@pytest.mark.provokes("fabric-link-is-management", "netplan-missing")
@pytest.mark.parametrize(
    ("fabric", "where", "found", "remedy"),
    [
        (
            replace(seen(), links=()),
            "spark-01: fabric",
            "no ConnectX-7 link was found",
            "plug the cable in",
        ),
        (
            replace(seen(), links=cage(1, carrier=False)),
            "spark-01: fabric",
            f"no carrier on {FIRST}, {SECOND}",
            "both ends",
        ),
        (
            replace(seen(), links=cage(0, carrier=None)),
            "spark-01: fabric",
            "no carrier: enp1s0f0np0, enP2p1s0f0np0 switched off",
            "on spark-01: sudo ip link set dev enp1s0f0np0 up",
        ),
        (
            replace(seen(), management=(SECOND,)),
            f"spark-01: {SECOND}",
            "carries the SSH connection",
            "RJ45",
        ),
        (replace(seen(), netplan=False), "spark-01: fabric", "netplan is not installed", "apt-get install"),
        (replace(seen(), renderer="sriov"), "spark-01: fabric", "netplan renders by sriov", "netplan.io"),
        (
            replace(seen(), foreign=(NetworkFile("/etc/netplan/40-cx7.yaml", (FIRST, SECOND)),)),
            "spark-01: /etc/netplan/40-cx7.yaml",
            f"a file of NVIDIA's playbook for two Sparks, or sparkrun configures {SECOND}, {FIRST}",
            "sudo mv /etc/netplan/40-cx7.yaml /etc/netplan/40-cx7.yaml.off",
        ),
        (
            replace(seen(), foreign=(NetworkFile("/etc/netplan/77-mine.yaml", (FIRST,)),)),
            "spark-01: /etc/netplan/77-mine.yaml",
            f"a file that sparkfleet did not write configures {FIRST}",
            "keep it: not managed by sparkfleet",
        ),
        (
            replace(seen(), networks=(("wlP9s9", "192.168.177.40/24"),)),
            f"spark-01: {SECOND}",
            "192.168.177.0/24 is also the network of wlP9s9 (192.168.177.40/24)",
            "another `fabric: {network: ...}`",
        ),
        (
            replace(seen(), address_owners=(AddressOwner("192.168.176.1", FIRST, "02:42:0a:01:01:01"),)),
            f"spark-01: {FIRST}",
            f"192.168.176.1 is in use: 02:42:0a:01:01:01 answers for it on {FIRST}",
            "another `fabric: {network: ...}`",
        ),
        (replace(seen(), verbs=False), "spark-01: fabric", "no RDMA", "fabric: {tcp: true}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_named_with_the_way_out(fabric: ObservedFabric, where: str, found: str, remedy: str) -> None:
    diagnostic = obstacle(fabric)
    assert diagnostic is not None
    assert diagnostic.location == where
    assert found in diagnostic.message
    assert remedy in diagnostic.hint


@pytest.mark.provokes("fabric-network-conflict")
def test_a_network_without_room_for_the_rails_is_an_obstacle() -> None:
    diagnostic = obstacle(seen(), network="192.168.176.0/24")
    assert diagnostic is not None
    assert "192.168.176.0/24 has no room for 2 rails of /24 and 2 Sparks" in diagnostic.message


def test_files_about_the_empty_cage_and_others_addresses_are_no_obstacle() -> None:
    fine = replace(
        seen(),
        foreign=(NetworkFile("/etc/netplan/40-cx7.yaml", ("enp1s0f0np0",)),),
        address_owners=(AddressOwner("192.168.178.1", FIRST, "02:42:0a:01:01:01"),),
    )
    assert obstacle(fine) is None


def test_tcp_that_is_declared_needs_no_rdma() -> None:
    assert obstacle(replace(seen(), verbs=False), tcp=True) is None


@pytest.mark.provokes("netplan-file-conflict", "rdma-missing")
def test_every_obstacle_is_named_at_once() -> None:
    both = replace(
        seen(),
        verbs=False,
        foreign=(
            NetworkFile("/etc/netplan/40-cx7.yaml", (FIRST,)),
            NetworkFile("/etc/netplan/9.yaml", (FIRST,)),
        ),
    )
    diagnostic = obstacle(both)
    assert diagnostic is not None
    assert [one.location for one in diagnostic.each] == [
        "spark-01: /etc/netplan/40-cx7.yaml", "spark-01: /etc/netplan/9.yaml", "spark-01: fabric",
    ]  # fmt: skip
