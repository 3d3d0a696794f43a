"""Rails: which link has which address, whichever cage the cable is in."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.desired_state import Fabric
from sparkfleet.plan.fabric.addresses import address, peers, rails
from sparkfleet.probe.links import ObservedFabric
from tests.unit.plan.fabric.fabric_fixtures import cage, member, seen, without_port


def shown(rank: int, fabric: ObservedFabric) -> list[tuple[str, str]]:
    return [(rail.link.name, str(rail.address)) for rail in rails(member(rank), fabric)]


def test_the_twins_of_the_cabled_cage_are_two_rails_on_two_subnets() -> None:
    assert shown(0, seen()) == [
        ("enp1s0f1np1", "192.168.176.1/24"),
        ("enP2p1s0f1np1", "192.168.177.1/24"),
    ]


def test_ends_in_different_cages_share_the_same_subnets() -> None:
    assert shown(1, seen(cabled=0)) == [
        ("enp1s0f0np0", "192.168.176.2/24"),
        ("enP2p1s0f0np0", "192.168.177.2/24"),
    ]


def test_two_cables_are_four_rails() -> None:
    both = replace(seen(), links=(*cage(1), *cage(0)))
    assert [name for name, _ in shown(0, both)] == [
        "enp1s0f0np0", "enP2p1s0f0np0", "enp1s0f1np1", "enP2p1s0f1np1",
    ]  # fmt: skip


def test_a_twin_that_is_switched_off_belongs_to_its_cabled_cage() -> None:
    first, second = cage(1)
    half = replace(seen(), links=(first, replace(second, carrier=None)))
    assert [name for name, _ in shown(0, half)] == ["enp1s0f1np1", "enP2p1s0f1np1"]


def test_links_of_an_unknown_port_stand_for_themselves() -> None:
    links = tuple(without_port(link) for link in (*cage(1), *cage(0, carrier=False)))
    assert [name for name, _ in shown(0, replace(seen(), links=links))] == ["enP2p1s0f1", "enp1s0f1"]


def test_without_a_cable_there_is_no_rail() -> None:
    assert shown(0, replace(seen(), links=(*cage(1, carrier=False), *cage(0, carrier=None)))) == []


def test_peers_are_all_others_of_the_cluster_on_that_rail() -> None:
    three = member(1, ("a", "b", "c"), network="10.20.0.0/16")
    assert peers(three, 1) == (("a", "10.20.1.1"), ("c", "10.20.1.3"))


@given(rank=st.integers(0, 253), rail=st.integers(0, 15))
def test_no_two_places_have_the_same_address_and_all_are_of_the_network(rank: int, rail: int) -> None:
    fabric = Fabric()
    mine = address(fabric, rank, rail)
    assert mine.ip in ipaddress.ip_network(fabric.network)
    assert mine.ip in list(mine.network.hosts())
    assert mine.ip != address(fabric, (rank + 1) % 254, rail).ip
    assert mine.network != address(fabric, rank, (rail + 1) % 16).network
