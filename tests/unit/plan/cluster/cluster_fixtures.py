"""A cluster of two Sparks for the tests of this directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sparkfleet.contract.generation import Generation
from sparkfleet.desired_state import Fabric, Host, Member
from sparkfleet.plan.compute import desired_generation, host_plan
from sparkfleet.plan.fabric import netplan
from sparkfleet.plan.fabric.addresses import rails
from sparkfleet.plan.model import ChangeSet, HostPlan
from sparkfleet.plan.operations import RolloutOperation
from sparkfleet.probe.links import ObservedFabric
from sparkfleet.probe.observation import Observed
from tests.unit.plan import fake_spark
from tests.unit.plan.fabric.fabric_fixtures import seen
from tests.unit.plan.nano import NANO

NAMES = ("spark-01", "spark-02")
SERVICE = replace(NANO, name="wide", served_name="wide", flags=(("tensor-parallel-size", 2), *NANO.flags))


def host(rank: int, executor: str = "mp", **service: Any) -> Host:
    """Return a member as its cluster file declares it."""
    member = Member("pair", rank, NAMES, executor, Fabric(), "wide")
    return Host(NAMES[rank], (replace(SERVICE, **service),), member=member)


def linked(rank: int, cabled: int = 1) -> ObservedFabric:
    """Return links that are as declared, the cable in one of the two cages."""
    member, bare = host(rank).member, seen(cabled=cabled)
    assert member is not None
    found = rails(member, bare)
    address = {rail.link.name: (str(rail.address),) for rail in found}
    links = tuple(
        replace(link, addresses=address[link.name], mtu=9000) if link.name in address else link
        for link in bare.links
    )
    return replace(bare, links=links, own=netplan.text(member, "networkd", found), own_mode="0600")


def fresh(declared: Host) -> Observed:
    """Return a member whose links are there, and nothing else."""
    assert declared.member is not None
    return replace(fake_spark.fresh(declared), fabric=linked(declared.member.rank))


def converged(declared: Host) -> Observed:
    """Return the member after a run of this declaration."""
    assert declared.member is not None
    return replace(fake_spark.converged(declared), fabric=linked(declared.member.rank))


def generation(declared: Host, observed: Observed | None = None) -> Generation:
    """Return the rank as the Spark gets it."""
    return desired_generation(declared, declared.services[0], observed or fresh(declared))[1]


def plan(declared: Host, observed: Observed) -> HostPlan:
    return host_plan(declared, observed)


def entry(found: HostPlan) -> ChangeSet:
    """Return the cluster's entry of a plan."""
    (own,) = (one for one in found.change_sets if one.cluster)
    return own


def rollouts(change_set: ChangeSet) -> list[RolloutOperation]:
    return [one for one in change_set.operations if isinstance(one, RolloutOperation)]
