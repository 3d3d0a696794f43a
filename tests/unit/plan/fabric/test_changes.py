"""What differs of a Spark's links, and what a run is asked to do about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.fabric import Peer
from sparkfleet.desired_state import Host
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.fabric import netplan
from sparkfleet.plan.fabric.addresses import rails
from sparkfleet.plan.fabric.changes import desired_addresses, fabric_change_set
from sparkfleet.plan.model import ChangeSet, HostState, Note, Step
from sparkfleet.plan.report import SIGNS
from sparkfleet.probe.links import ObservedFabric
from sparkfleet.probe.observation import Observed, ObservedPath
from sparkfleet.runtimes.observation import ObservedInstance
from tests.unit.plan import fake_spark
from tests.unit.plan.fabric.fabric_fixtures import cage, member, requested, seen

FIRST, SECOND = "enp1s0f1np1", "enP2p1s0f1np1"


def host(rank: int = 0, **fabric: Any) -> Host:
    return Host("spark-01", member=member(rank, **fabric))


def observed(fabric: ObservedFabric | None) -> Observed:
    return replace(fake_spark.converged(host()), fabric=fabric)


def linked(rank: int = 0) -> ObservedFabric:
    """Return a Spark whose links are as declared."""
    bare = seen()
    found = rails(member(rank), bare)
    address = {rail.link.name: (str(rail.address),) for rail in found}
    links = tuple(
        replace(link, addresses=address[link.name], mtu=9000) if link.name in address else link
        for link in bare.links
    )
    return replace(bare, links=links, own=netplan.text(member(rank), "networkd", found), own_mode="0600")


def with_link(fabric: ObservedFabric, name: str, **fields: object) -> ObservedFabric:
    links = tuple(replace(one, **fields) if one.name == name else one for one in fabric.links)  # type: ignore[arg-type]
    return replace(fabric, links=links)


def entry(fabric: ObservedFabric, declared: Host | None = None) -> ChangeSet:
    found = fabric_change_set(declared or host(), observed(fabric))
    assert found is not None
    return found


def rows(fabric: ObservedFabric) -> list[tuple[str, str, str, str, str]]:
    return [(SIGNS[c.action], c.name, c.key, c.old, c.new) for c in entry(fabric).fields()]


def test_a_spark_as_delivered_gets_addresses_mtu_and_a_file() -> None:
    assert rows(seen()) == [
        ("+", "address", FIRST, "", "192.168.176.1/24"),
        ("~", "mtu", FIRST, "1500", "9000"),
        ("+", "address", SECOND, "", "192.168.177.1/24"),
        ("~", "mtu", SECOND, "1500", "9000"),
        ("+", "netplan", netplan.PATH, "", ""),
    ]


def test_links_as_declared_are_no_entry() -> None:
    assert fabric_change_set(host(), observed(linked())) is None
    assert host_plan(host(), observed(linked())).state is HostState.UNCHANGED


@pytest.mark.parametrize(
    ("changed", "row"),
    [
        (with_link(linked(), FIRST, mtu=1500), ("~", "mtu", FIRST, "1500", "9000")),
        (
            with_link(linked(), SECOND, addresses=("192.168.177.1/24", "10.0.0.9/8")),
            ("~", "address", SECOND, "192.168.177.1/24, 10.0.0.9/8", "192.168.177.1/24"),
        ),
        (replace(linked(), own_mode="0644"), ("~", "netplan", netplan.PATH, "0644", "0600")),
        (replace(linked(), own=None), ("+", "netplan", netplan.PATH, "", "")),
    ],
    ids=["mtu", "a second address", "mode", "file removed"],
)
def test_each_resource_changed_by_hand_is_one_row(
    changed: ObservedFabric, row: tuple[str, str, str, str, str]
) -> None:
    assert rows(changed) == [row]


def test_another_content_of_our_file_is_shown_by_its_hash() -> None:
    old = replace(
        linked(), own=netplan.text(member(), "networkd", rails(member(), linked())).replace("9000", "1500")
    )
    ((sign, field, key, before, after),) = rows(old)
    assert (sign, field, key, len(before), len(after)) == ("~", "netplan", netplan.PATH, 12, 12)
    assert before != after


def test_a_cable_that_moved_to_the_other_cage_takes_the_addresses_with_it() -> None:
    was = linked()
    own = {link.name: link for link in was.links}
    moved = tuple(
        replace(link, addresses=own[link.name].addresses, mtu=own[link.name].mtu)
        for link in (*cage(0), *cage(1, carrier=False))
    )
    found = [row for row in rows(replace(was, links=moved)) if row[1] != "netplan"]
    assert found == [
        ("-", "link", FIRST, "192.168.176.1/24", ""),
        ("-", "link", SECOND, "192.168.177.1/24", ""),
        ("+", "address", "enp1s0f0np0", "", "192.168.176.1/24"),
        ("~", "mtu", "enp1s0f0np0", "1500", "9000"),
        ("+", "address", "enP2p1s0f0np0", "", "192.168.177.1/24"),
        ("~", "mtu", "enP2p1s0f0np0", "1500", "9000"),
    ]
    request = requested(entry(replace(was, links=moved)))
    assert request.drop == ((FIRST, "192.168.176.1/24"), (SECOND, "192.168.177.1/24"))


def test_a_run_is_asked_for_what_the_rows_say_and_to_prove_it_with_every_peer() -> None:
    declared = Host("b", member=member(1, ("a", "b", "c")))
    request = requested(entry(with_link(seen(), FIRST, addresses=("10.9.9.9/24",)), declared))
    assert request.addresses == ((FIRST, "192.168.176.2/24"), (SECOND, "192.168.177.2/24"))
    assert request.drop == ((FIRST, "10.9.9.9/24"),)
    assert request.peers == (
        Peer("a", FIRST, "192.168.176.1"), Peer("c", FIRST, "192.168.176.3"),
        Peer("a", SECOND, "192.168.177.1"), Peer("c", SECOND, "192.168.177.3"),
    )  # fmt: skip
    assert request.rdma == ((FIRST, "rocep1s0f1"), (SECOND, "roceP2p1s0f1"))
    assert (request.mtu, request.management, request.renderer) == (9000, ("enP7s7",), "networkd")


def test_links_of_the_empty_cage_and_what_is_on_them_are_left_alone() -> None:
    other = with_link(linked(), "enp1s0f0np0", addresses=("10.1.1.1/24",), mtu=1500)
    assert fabric_change_set(host(), observed(other)) is None


def test_the_file_has_fixed_addresses_and_no_way_out() -> None:
    text = netplan.text(member(), "networkd", rails(member(), seen()))
    assert (
        f"    {FIRST}:\n      renderer: networkd\n      addresses: [192.168.176.1/24]\n      mtu: 9000\n"
        in text
    )
    assert text.count("link-local: []") == 2
    assert "gateway" not in text
    assert "\n  renderer" not in text  # that would be everybody's


@pytest.mark.provokes("fabric-in-use")
def test_an_engine_that_serves_over_the_links_is_named_where_they_change() -> None:
    serving = replace(host().member or member(), service="wide")
    declared = Host("spark-01", member=serving)
    engine = ObservedInstance("1" * 64, "wide", "sha256:1", "running", "", "wide")
    with_engine = replace(observed(seen()), instances=(engine,))
    found = fabric_change_set(declared, with_engine)
    assert found is not None
    (note,) = found.notes
    assert (note.name, note.text) == ("service", "wide")
    assert "may hang until it is restarted" in note.remark
    assert fabric_change_set(declared, replace(with_engine, fabric=linked())) is None


@pytest.mark.provokes("fabric-twin-missing")
def test_a_single_twin_is_reported_as_half() -> None:
    (note,) = entry(replace(seen(), links=cage(1)[:1])).notes
    assert (note.name, note.text, note.remark) == (
        "link",
        FIRST,
        "a cage without its twin: half of the bandwidth",
    )


@pytest.mark.parametrize(
    ("links", "names"), [((), "no netdev"), (cage(1, carrier=False), f"{FIRST}, {SECOND}")]
)
def test_without_a_cable_there_is_a_statement_and_no_change(links: tuple[object, ...], names: str) -> None:
    found = entry(replace(seen(), links=links))  # type: ignore[arg-type]
    assert found.blocked
    assert found.notes == (Note(Step.FABRIC, "link", text=names, remark="no carrier"),)
    assert found.operations == ()
    assert host_plan(host(), observed(replace(seen(), links=links))).state is HostState.BLOCKED  # type: ignore[arg-type]


def test_a_blocked_fabric_is_seen_in_a_deploy_of_the_fabric_and_not_in_one_of_the_images() -> None:
    plan = host_plan(host(), observed(replace(seen(), links=())))
    assert plan.within((Step.HOST, Step.FABRIC)).state is HostState.BLOCKED
    assert plan.within((Step.IMAGE, Step.WEIGHTS)).state is HostState.UNCHANGED


def test_a_spark_that_left_its_cluster_gives_file_and_addresses_back() -> None:
    single = Host("spark-01")
    present = replace(
        fake_spark.fresh(single), paths={netplan.PATH: ObservedPath("file", "0600", "root", "root")}
    )
    found = fabric_change_set(single, present)
    assert found is not None
    assert [(c.action, c.name, c.old) for c in found.fields()] == [("remove", "netplan", netplan.PATH)]
    assert requested(found).text == ""
    assert fabric_change_set(single, fake_spark.fresh(single)) is None


def test_only_sparks_of_clusters_are_asked_for_links_and_the_others_for_a_left_over_file() -> None:
    assert desired_addresses(host(1)) == ("192.168.176.2", "192.168.177.2", "192.168.178.2", "192.168.179.2")
    assert probe_request(host()).fabric == desired_addresses(host())
    single = probe_request(Host("spark-01"))
    assert (single.fabric, netplan.PATH in single.paths) == ((), True)
    assert netplan.PATH not in probe_request(host()).paths
