"""Members and fabrics for the tests of this directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sparkfleet.contract.fabric import FabricRequest
from sparkfleet.desired_state import Fabric, Member
from sparkfleet.plan.model import ChangeSet
from sparkfleet.plan.operations import ConfigureFabric
from sparkfleet.probe.links import Link, ObservedFabric

HOSTS = ("spark-01", "spark-02")


def member(rank: int = 0, hosts: tuple[str, ...] = HOSTS, **fabric: Any) -> Member:
    return Member("pair", rank, hosts, "ray", Fabric(**fabric))


def cage(port: int, *, carrier: bool | None = True) -> tuple[Link, Link]:
    """Return the twins of a cage as a Spark names them in its delivered state."""
    return (
        Link(f"enp1s0f{port}np{port}", f"p{port}", "0000:01:00.0", carrier, 1500, rdma=f"rocep1s0f{port}",
             rdma_state="ACTIVE" if carrier else "DOWN", speed=200000),
        Link(f"enP2p1s0f{port}np{port}", f"p{port}", "0002:01:00.0", carrier, 1500, rdma=f"roceP2p1s0f{port}",
             rdma_state="ACTIVE" if carrier else "DOWN", speed=200000),
    )  # fmt: skip


def without_port(link: Link) -> Link:
    """Return a link of whose port neither the driver nor the netdev's name tells."""
    return replace(link, port="", name=link.name.rpartition("np")[0])


def seen(*, cabled: int = 1, **fields: Any) -> ObservedFabric:
    """Return a Spark with a cable in one cage, nothing configured."""
    made = ObservedFabric(
        links=(*cage(cabled), *cage(1 - cabled, carrier=False)),
        management=("enP7s7",),
        management_address="192.168.1.21",
        networks=(("enP7s7", "192.168.1.21/24"), ("docker0", "172.17.0.1/16")),
        renderer="networkd",
        netplan=True,
        verbs=True,
    )
    return replace(made, **fields)


def requested(change_set: ChangeSet) -> FabricRequest:
    """Return what a run asks the host's program for."""
    (operation,) = change_set.operations
    assert isinstance(operation, ConfigureFabric)
    return operation.request
