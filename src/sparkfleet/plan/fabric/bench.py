"""Pairs of Sparks of a cluster to measure, with links and program."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparkfleet.contract.fabric import IPERF, RDMA, STREAM, BenchRequest, Lane
from sparkfleet.desired_state import Member
from sparkfleet.plan.fabric.addresses import rails
from sparkfleet.plan.fabric.environment import has_rdma
from sparkfleet.probe.links import ObservedFabric


@dataclass(frozen=True)
class End:
    """A Spark to measure."""

    name: str
    member: Member
    observed: ObservedFabric
    tools: Collection[str]


def pairs(ends: Sequence[End]) -> list[tuple[End, End]]:
    """Return pairs of sender and receiver: two Sparks once; of more, each rank to the next, in a circle."""
    around = [*pairwise(ends), (ends[-1], ends[0])]
    return [(a, b) for number, (a, b) in enumerate(around) if (b, a) not in around[:number]]


def requests(sender: End, receiver: End, seconds: int) -> tuple[BenchRequest, BenchRequest]:
    """Return the requests to sender and receiver."""
    ours, theirs = (rails(end.member, end.observed) for end in (sender, receiver))
    both = [(one, other) for one in ours for other in theirs if one.number == other.number]
    tool = _tool(sender, receiver)

    def request(other: str, lanes: list[Lane]) -> BenchRequest:
        return BenchRequest(sender.member.cluster, other, tool, seconds, tuple(lanes))

    def lane(mine: int) -> list[Lane]:
        return [
            Lane(ends[mine].link.name, ends[mine].link.rdma, str(ends[mine].address.ip),
                 str(ends[1 - mine].address.ip))
            for ends in both
        ]  # fmt: skip

    return request(receiver.name, lane(0)), request(sender.name, lane(1))


def _tool(sender: End, receiver: End) -> str:
    shared = set(sender.tools) & set(receiver.tools)
    if RDMA in shared and all(has_rdma(end.member, end.observed) for end in (sender, receiver)):
        return RDMA
    return IPERF if IPERF in shared else STREAM
