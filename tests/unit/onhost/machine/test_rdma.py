"""RDMA memory regions of an engine that ended, and the GID index that applies at a start."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace

import pytest

from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.onhost.machine import rdma
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import read_events
from tests.unit.onhost.world import World, generation

PLACE = Rank("pair", 0, ("spark-01",), ("192.168.176.1",), "mp", "fingerprint")
ENV = (
    ("NCCL_IB_HCA", "=rocep1s0f1:1,roceP2p1s0f1:1"),
    ("NCCL_IB_ADDR_FAMILY", "AF_INET"),
    ("NCCL_IB_GID_INDEX", "-1"),
    ("NCCL_IB_ADDR_RANGE", "192.168.176.0/23"),
)
RANK = generation(image="img:2", rank=PLACE, env=ENV)
KERNEL = "dev rocep1s0f1 mrn 0 mrlen 4096 comm [nvme_rdma]"
OTHER = "dev rocep1s0f1 mrn 7 rkey 0x7 lkey 0x7 iova 0x7 mrlen 64 pdn 2 pid 4711 comm rping"
OWN = "link rocep1s0f1/- mrn 8 mrlen 1073741824 pid 71 comm VLLM::Worker_TP0"
ENDED = "dev roceP2p1s0f1 mrn 9 rkey 0x9 lkey 0x9 iova 0x9 mrlen 1073741824 pdn 3"


def released_after(world: World, seconds: float, *lines: str) -> Callable[[], str]:
    """Return what lists these regions until then."""
    until = world.clock + seconds
    return lambda: "\n".join((KERNEL, OTHER, *(lines if world.clock < until else ())))


@pytest.mark.parametrize("region", [OWN, ENDED])
def test_the_regions_of_the_ended_engine_are_waited_for(world: World, region: str) -> None:
    world.pids = {71: "c1", 4711: "another"}
    world.rdma_regions = released_after(world, 20, region)
    began, logged = world.clock, list[str]()
    rdma.wait_for_release(world, {"c1"}, logged.append)
    assert 20 <= world.clock - began < 23
    assert logged == [
        "RDMA memory regions of the last engine: waiting for the release of 1",
        f"RDMA memory regions of the last engine: released after {world.clock - began:.0f} s",
    ]


def test_regions_of_the_kernel_and_of_living_processes_are_not_waited_for(world: World) -> None:
    world.rdma_regions = released_after(world, 0)
    began, logged = world.clock, list[str]()
    rdma.wait_for_release(world, {"c1"}, logged.append)
    assert (world.clock, logged) == (began, [])


def test_regions_that_stay_are_named_and_the_start_goes_on(world: World) -> None:
    world.rdma_regions = released_after(world, 10_000, ENDED, ENDED)
    began, logged = world.clock, list[str]()
    rdma.wait_for_release(world, set(), logged.append)
    assert rdma.RELEASED_S <= world.clock - began <= rdma.RELEASED_S + 2
    assert "2 are still registered after 60 s; starting anyway" in logged[-1]


def test_without_the_command_the_regions_are_unknown_and_the_start_goes_on(world: World) -> None:
    began, logged = world.clock, list[str]()
    rdma.wait_for_release(world, set(), logged.append)
    assert world.clock == began
    assert logged == [
        "RDMA memory regions of the last engine: unknown, there is no command rdma; starting anyway"
    ]


def test_a_requested_stop_ends_both_waits(world: World) -> None:
    world.rdma_regions = released_after(world, 10_000, ENDED)
    began = world.clock
    rdma.wait_for_release(world, set(), print, lambda: True)
    rdma.wait_for_gids(world, RANK, print, lambda: True)
    assert world.clock == began


@pytest.mark.parametrize("old_is_rank", [True, False])
def test_a_rollout_of_a_rank_waits_between_stop_and_start(world: World, old_is_rank: bool) -> None:
    old = generation(rank=PLACE) if old_is_rank else generation()
    new = generation(image="img:2") if old_is_rank else RANK
    box = world.serve(old)
    for device, network in (("rocep1s0f1", 176), ("roceP2p1s0f1", 177)):
        gids(world, device, table(f"192.168.{network}.1", 3))
    world.pids = {71: box.id}
    world.rdma_regions = released_after(world, 30, OWN)
    began = world.clock
    world.ask(RolloutRequest("s1", new, ("nano",), cluster_key="t"))
    starts = [
        event
        for event in read_events(store.rollout_directory(world.paths.state, "s1"))
        if event.step == "start"
    ]
    assert starts[0].at - began >= 30


def test_a_single_spark_asks_for_no_regions(world: World) -> None:
    world.serve(generation())
    world.rdma_regions = lambda: pytest.fail("asked")
    assert world.ask(RolloutRequest("s1", generation(image="img:2"), ("nano",))).outcome == "promoted"


def gids(world: World, device: str, entries: dict[int, tuple[str, str]]) -> None:
    """Write the GID table of a device: index -> address and version. Empty entries are as the kernel shows
    them: zeros, with a version that cannot be read.
    """
    port = world.paths.rdma / device / "ports/1"
    (port / "gids").mkdir(parents=True, exist_ok=True)
    (port / "gid_attrs/types").mkdir(parents=True, exist_ok=True)
    for index in range(8):
        address, version = entries.get(index, ("::", ""))
        (port / "gids" / str(index)).write_text(ipaddress.IPv6Address(address).exploded + "\n")
        kind = port / "gid_attrs/types" / str(index)
        kind.unlink(missing_ok=True)
        if version:
            kind.write_text(version + "\n")


LINK_LOCAL = {0: ("fe80::1", "IB/RoCE v1"), 1: ("fe80::1", "RoCE v2")}


def table(address: str, index: int) -> dict[int, tuple[str, str]]:
    return {
        **LINK_LOCAL,
        index - 1: (f"::ffff:{address}", "IB/RoCE v1"),
        index: (f"::ffff:{address}", "RoCE v2"),
    }


def test_the_index_is_looked_up_at_each_start_per_device(world: World) -> None:
    gids(world, "rocep1s0f1", table("192.168.176.1", 3))
    gids(world, "roceP2p1s0f1", table("192.168.177.1", 3))
    logged: list[str] = []
    rdma.wait_for_gids(world, RANK, logged.append)
    gids(world, "roceP2p1s0f1", table("192.168.177.1", 5))
    rdma.wait_for_gids(world, RANK, logged.append)
    assert logged == [
        "GID index of this start: rocep1s0f1 3, roceP2p1s0f1 3",
        "GID index of this start: rocep1s0f1 3, roceP2p1s0f1 5",
    ]


def test_an_address_outside_of_the_fabric_is_not_the_gid_of_a_rail(world: World) -> None:
    both = table("169.254.7.7", 3) | {5: ("::ffff:192.168.176.1", "RoCE v2")}
    gids(world, "rocep1s0f1", both)
    network = ipaddress.IPv4Network("192.168.176.0/23")
    assert rdma.gid_index(world.paths.rdma, "rocep1s0f1", network) == 5
    assert rdma.gid_index(world.paths.rdma, "rocep1s0f1", None) == 3


def test_a_rail_whose_address_comes_late_is_waited_for(world: World) -> None:
    gids(world, "rocep1s0f1", table("192.168.176.1", 3))
    gids(world, "roceP2p1s0f1", LINK_LOCAL)
    began, logged = world.clock, list[str]()

    def comes() -> None:
        if world.clock >= began + 10:
            gids(world, "roceP2p1s0f1", table("192.168.177.1", 3))

    world.on_tick.append(comes)
    rdma.wait_for_gids(world, RANK, logged.append)
    assert 10 <= world.clock - began < 13
    assert logged[0] == "waiting, no RoCEv2 GID with an IPv4 address of the fabric: roceP2p1s0f1"


def test_a_rail_without_a_gid_is_named_and_the_start_goes_on(world: World) -> None:
    gids(world, "rocep1s0f1", table("192.168.176.1", 3))
    logged: list[str] = []
    began = world.clock
    rdma.wait_for_gids(world, RANK, logged.append)
    assert rdma.GIDS_S <= world.clock - began <= rdma.GIDS_S + 2
    assert "roceP2p1s0f1; starting anyway after 60 s" in logged[-1]


@pytest.mark.parametrize(
    "other",
    [
        generation(env=ENV),
        replace(RANK, env=(("NCCL_NET", "Socket"),)),
        replace(RANK, env=(*ENV, ("NCCL_IB_ADDR_FAMILY", "AF_INET6"))),
    ],
)
def test_only_ranks_with_rdma_devices_have_gids(world: World, other: Generation) -> None:
    rdma.wait_for_gids(world, other, pytest.fail)
