"""Three Sparks without a switch: each cable has subnets of its own, and all know a Spark at one address."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import yaml

from sparkfleet.contract.fabric import Peer, links_of
from sparkfleet.desired_state import Host, Member
from sparkfleet.plan.cluster.render import rank_of, ranked
from sparkfleet.plan.fabric import netplan, ring
from sparkfleet.plan.fabric.addresses import Rail, node_address, peers, rails, route
from sparkfleet.plan.fabric.bench import End, requests
from sparkfleet.plan.fabric.changes import desired_addresses, fabric_change_set
from sparkfleet.plan.fabric.environment import environment
from sparkfleet.probe.links import ObservedFabric
from sparkfleet.probe.observation import Observed, User
from tests.unit.plan import fake_spark
from tests.unit.plan.cluster.cluster_fixtures import SERVICE
from tests.unit.plan.fabric.fabric_fixtures import cage, member, requested, seen, without_port

NAMES = ("a", "b", "c")
USER = User("nvidia", "/home/nvidia", 1000, 1000, "nvidia")
TO_NEXT, TWIN_TO_NEXT, TO_LAST, TWIN_TO_LAST = "enp1s0f0np0", "enP2p1s0f0np0", "enp1s0f1np1", "enP2p1s0f1np1"


def of_ring(rank: int, **fabric: object) -> Member:
    return member(rank, NAMES, ring=True, **fabric)


def both() -> ObservedFabric:
    """Return a Spark with a cable in each cage."""
    return replace(seen(), links=(*cage(1), *cage(0)))


def linked(rank: int) -> ObservedFabric:
    """Return a Spark whose links are as declared."""
    mine, bare = of_ring(rank), both()
    found = rails(mine, bare)
    links = tuple(
        replace(one.link, addresses=(str(one.address),), mtu=9000, routes=ways(mine, one)) for one in found
    )
    return replace(bare, links=links, own=netplan.text(mine, "networkd", found), own_mode="0600")


def ways(mine: Member, rail: Rail) -> tuple[str, ...]:
    found = route(mine, rail)
    return (str(found),) if found else ()


def observed(rank: int, fabric: ObservedFabric) -> Observed:
    return replace(fake_spark.converged(Host("a", member=of_ring(rank))), fabric=fabric)


def shown(rank: int, fabric: ObservedFabric | None = None) -> list[tuple[str, str]]:
    return [(one.link.name, str(one.address)) for one in rails(of_ring(rank), fabric or both())]


def test_a_cage_says_which_cable_it_is_and_both_ends_of_a_cable_are_on_its_subnets() -> None:
    assert shown(0) == [
        (TO_NEXT, "192.168.176.1/24"), (TWIN_TO_NEXT, "192.168.177.1/24"),
        (TO_LAST, "192.168.180.1/24"), (TWIN_TO_LAST, "192.168.181.1/24"),
    ]  # fmt: skip
    assert shown(1) == [
        (TO_NEXT, "192.168.178.2/24"), (TWIN_TO_NEXT, "192.168.179.2/24"),
        (TO_LAST, "192.168.176.2/24"), (TWIN_TO_LAST, "192.168.177.2/24"),
    ]  # fmt: skip
    assert shown(2)[2:] == [(TO_LAST, "192.168.178.3/24"), (TWIN_TO_LAST, "192.168.179.3/24")]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_on_each_subnet_is_one_other_spark(rank: int) -> None:
    found = {
        (name, at) for one in rails(of_ring(rank), both()) for name, at in peers(of_ring(rank), one.number)
    }
    theirs = {
        (NAMES[other], address.partition("/")[0])
        for other in range(3)
        if other != rank
        for _, address in shown(other)
        if address.rpartition(".")[0] in {mine.rpartition(".")[0] for _, mine in shown(rank)}
    }
    assert found == theirs
    assert len(found) == 4


@pytest.mark.parametrize(("rank", "other"), list(permutations(range(3), 2)))
def test_every_spark_reaches_every_other_at_its_one_address_over_their_cable(rank: int, other: int) -> None:
    mine, target = of_ring(rank), node_address(of_ring(rank), other)
    assert target == shown(other)[0][1].partition("/")[0]
    found = rails(mine, both())
    beside = [one for one in found if target.rpartition(".")[0] == str(one.address.ip).rpartition(".")[0]]
    by_route = [(one, way) for one in found if (way := route(mine, one)) and way.to == target]
    assert len(beside) + len(by_route) == 1
    for one, way in by_route:
        assert (way.name, way.via) in peers(mine, one.number)
        assert way.name == NAMES[other]
    for one in beside:
        assert (NAMES[other], target) in peers(mine, one.number)


@pytest.mark.provokes("fabric-no-carrier")
def test_without_a_cable_in_each_cage_there_is_no_ring() -> None:
    assert shown(0, seen()) == []
    assert shown(0, replace(seen(), links=tuple(map(without_port, both().links)))) == []
    entry = fabric_change_set(Host("a", member=of_ring(0)), observed(0, seen()))
    assert entry is not None
    assert entry.blocked is not None
    assert entry.blocked.message == "no carrier on enp1s0f0np0, enP2p1s0f0np0"
    assert "a p0 to b p1, b p0 to c p1, c p0 to a p1" in entry.blocked.expected
    assert [(note.name, note.text) for note in entry.notes] == [("link", "enp1s0f0np0, enP2p1s0f0np0")]


def test_the_file_has_the_route_and_names_the_links_alone() -> None:
    text = netplan.text(of_ring(0), "networkd", rails(of_ring(0), both()))
    values = yaml.safe_load(text)["network"]["ethernets"]
    assert values[TO_NEXT]["routes"] == [{"to": "192.168.178.2/32", "via": "192.168.176.2"}]
    assert [name for name in values if "routes" in values[name]] == [TO_NEXT]
    assert links_of(text) == (TO_NEXT, TWIN_TO_NEXT, TO_LAST, TWIN_TO_LAST)


def test_links_as_declared_are_no_entry_and_a_route_that_is_gone_is_a_row() -> None:
    declared = Host("a", member=of_ring(0))
    assert fabric_change_set(declared, observed(0, linked(0))) is None
    links = tuple(replace(link, routes=()) for link in linked(0).links)
    entry = fabric_change_set(declared, observed(0, replace(linked(0), links=links)))
    assert entry is not None
    ((row),) = entry.fields()
    assert (row.action, row.name, row.key, row.new) == (
        "add", "route", TO_NEXT, "192.168.178.2 via 192.168.176.2",
    )  # fmt: skip


def test_routes_that_are_not_ours_are_left_alone() -> None:
    links = tuple(
        replace(link, routes=(*link.routes, "10.0.0.9 via 192.168.176.2")) for link in linked(0).links
    )
    assert (
        fabric_change_set(Host("a", member=of_ring(0)), observed(0, replace(linked(0), links=links))) is None
    )


def test_a_run_proves_the_route_with_the_next_spark() -> None:
    entry = fabric_change_set(Host("a", member=of_ring(0)), observed(0, both()))
    assert entry is not None
    assert requested(entry).peers == (
        Peer("b", TO_NEXT, "192.168.176.2"), Peer("b", TO_NEXT, "192.168.178.2"),
        Peer("b", TWIN_TO_NEXT, "192.168.177.2"),
        Peer("c", TO_LAST, "192.168.180.3"), Peer("c", TWIN_TO_LAST, "192.168.181.3"),
    )  # fmt: skip


def test_the_addresses_asked_for_are_those_of_the_ring() -> None:
    assert desired_addresses(Host("b", member=of_ring(1))) == (
        "192.168.178.2", "192.168.179.2", "192.168.176.2", "192.168.177.2",
    )  # fmt: skip


def test_nccl_is_set_up_for_ports_that_lead_to_one_neighbour_each() -> None:
    env = dict(environment(of_ring(1), both(), "VLLM_HOST_IP"))
    assert (env["VLLM_HOST_IP"], env["GLOO_SOCKET_IFNAME"]) == ("192.168.178.2", TO_NEXT)
    assert env["NCCL_IB_HCA"] == "=rocep1s0f0:1,roceP2p1s0f0:1,rocep1s0f1:1,roceP2p1s0f1:1"
    assert (env["NCCL_IB_SUBNET_AWARE_ROUTING"], env["NCCL_IB_MERGE_NICS"], env["NCCL_NET_PLUGIN"]) == (
        "1", "0", "none",
    )  # fmt: skip
    assert "NCCL_IB_MERGE_NICS" not in dict(environment(member(0), seen(), "VLLM_HOST_IP"))


def test_over_tcp_data_goes_where_the_routes_lead() -> None:
    values = dict(environment(of_ring(0, tcp=True), replace(both(), verbs=False), "VLLM_HOST_IP"))
    assert values["NCCL_SOCKET_IFNAME"] == TO_NEXT
    assert "NCCL_IB_MERGE_NICS" not in values


def test_rendezvous_is_at_the_heads_one_address_and_supervisors_ask_at_each_ones() -> None:
    last = replace(of_ring(2), executor="mp", service="wide")
    assert dict(ranked(last, SERVICE, both()).flags)["master-addr"] == "192.168.176.1"
    rank = rank_of(Host("c", (SERVICE,), member=last), last, SERVICE, USER)
    assert rank.addresses == ("192.168.176.1", "192.168.178.2", "192.168.180.3")


def test_two_of_a_ring_are_measured_over_their_own_cable() -> None:
    ends = [End(name, of_ring(rank), both(), ("stream",)) for rank, name in enumerate(NAMES)]
    lanes = requests(ends[2], ends[0], 5)[0].lanes
    assert [(lane.link, lane.own, lane.peer) for lane in lanes] == [
        (TO_NEXT, "192.168.180.3", "192.168.180.1"), (TWIN_TO_NEXT, "192.168.181.3", "192.168.181.1"),
    ]  # fmt: skip


def test_the_wiring_is_described_in_text() -> None:
    assert ring.wiring(NAMES).startswith("a ring is wired a p0 to b p1, b p0 to c p1, c p0 to a p1;")
