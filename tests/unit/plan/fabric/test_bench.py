"""Who is measured against whom, over which links, by which program."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.fabric import IPERF, RDMA, STREAM, Lane
from sparkfleet.plan.fabric.bench import End, pairs, requests
from tests.unit.plan.fabric.fabric_fixtures import cage, member, seen

ALL = (RDMA, IPERF, STREAM)


def ends(count: int = 2) -> list[End]:
    names = tuple(f"spark-0{number + 1}" for number in range(count))
    return [End(name, member(rank, names), seen(cabled=rank % 2), ALL) for rank, name in enumerate(names)]


@pytest.mark.parametrize(
    ("count", "found"), [(2, [(0, 1)]), (3, [(0, 1), (1, 2), (2, 0)]), (4, [(0, 1), (1, 2), (2, 3), (3, 0)])]
)
def test_every_spark_of_a_cluster_is_measured_and_no_pair_twice(
    count: int, found: list[tuple[int, int]]
) -> None:
    all_of_them = ends(count)
    assert [(all_of_them.index(a), all_of_them.index(b)) for a, b in pairs(all_of_them)] == found


def test_the_two_ends_see_the_same_links_from_their_sides() -> None:
    near, far = ends()
    sends, listens = requests(near, far, 5)
    assert sends.lanes == (
        Lane("enp1s0f0np0", "rocep1s0f0", "192.168.176.1", "192.168.176.2"),
        Lane("enP2p1s0f0np0", "roceP2p1s0f0", "192.168.177.1", "192.168.177.2"),
    )
    assert listens.lanes == (
        Lane("enp1s0f1np1", "rocep1s0f1", "192.168.176.2", "192.168.176.1"),
        Lane("enP2p1s0f1np1", "roceP2p1s0f1", "192.168.177.2", "192.168.177.1"),
    )
    assert (sends.other, listens.other, sends.tool) == ("spark-02", "spark-01", RDMA)


def test_links_that_only_one_of_them_has_are_left_out() -> None:
    near, far = ends()
    two = replace(far, observed=replace(far.observed, links=(*cage(0), *cage(1))))
    assert len(requests(near, two, 5)[0].lanes) == 2


@pytest.mark.parametrize(
    ("tools", "verbs", "tool"),
    [(ALL, True, RDMA), (ALL, False, IPERF), ((IPERF, STREAM), True, IPERF), ((STREAM,), True, STREAM)],
)
def test_the_best_program_that_both_have_and_can_use(tools: tuple[str, ...], verbs: bool, tool: str) -> None:
    near, far = ends()
    less = replace(far, tools=tools, observed=replace(far.observed, verbs=verbs))
    assert requests(near, less, 5)[0].tool == tool
    assert requests(less, near, 5)[1].tool == tool
