"""Which Sparks of a cluster are measured against which, over which links, by which program."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparkfleet.config.resolved import Member
from sparkfleet.contract.fabric import IPERF, RDMA, STREAM, BenchRequest, Lane
from sparkfleet.plan.fabric.addresses import rails
from sparkfleet.plan.fabric.environment import has_rdma
from sparkfleet.probe.links import FabricSeen


@dataclass(frozen=True)
class End:
    """A Spark that is ready to be measured."""

    name: str
    member: Member
    seen: FabricSeen
    tools: Collection[str]


def pairs(ends: Sequence[End]) -> list[tuple[End, End]]:
    """Return who sends to whom: two Sparks once, of more each to the next in rank, the last to the first."""
    around = [*pairwise(ends), (ends[-1], ends[0])]
    return [(a, b) for number, (a, b) in enumerate(around) if (b, a) not in around[:number]]


def requests(here: End, there: End, seconds: int) -> tuple[BenchRequest, BenchRequest]:
    """Return what the sender is asked for, and what the listener."""
    ours, theirs = (rails(end.member, end.seen) for end in (here, there))
    both = [(one, other) for one in ours for other in theirs if one.number == other.number]
    tool = _tool(here, there)

    def asked(other: str, lanes: list[Lane]) -> BenchRequest:
        return BenchRequest(here.member.cluster, other, tool, seconds, tuple(lanes))

    def lane(mine: int) -> list[Lane]:
        return [
            Lane(ends[mine].link.name, ends[mine].link.rdma, str(ends[mine].address.ip),
                 str(ends[1 - mine].address.ip))
            for ends in both
        ]  # fmt: skip

    return asked(there.name, lane(0)), asked(here.name, lane(1))


def _tool(here: End, there: End) -> str:
    shared = set(here.tools) & set(there.tools)
    if RDMA in shared and all(has_rdma(end.member, end.seen) for end in (here, there)):
        return RDMA
    return IPERF if IPERF in shared else STREAM
