"""Addresses on the fabric: a rail is a subnet, a rank is a number in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from sparkfleet.desired_state import Fabric, Member
from sparkfleet.plan.fabric import ring
from sparkfleet.probe.links import Link, ObservedFabric

PREFIX = 24
"""Length of a rail's prefix: 254 Sparks in one cluster."""


MOST_RAILS = 4
"""Netdevs of the two cages of a Spark."""


@dataclass(frozen=True)
class Route:
    """Route to another Spark's address outside this Spark's subnets."""

    name: str
    """Name of the other Spark."""
    to: str
    via: str
    """The other Spark's address on the link that the two share."""

    def __str__(self) -> str:
        """Return the form that plan and probe use."""
        return f"{self.to} via {self.via}"


@dataclass(frozen=True)
class Rail:
    """One link of a Spark with its place in the fabric."""

    number: int
    link: Link
    address: ipaddress.IPv4Interface


def address(fabric: Fabric, rank: int, rail: int = 0) -> ipaddress.IPv4Interface:
    """Return the address of a rank on a rail: the /24 of that number, the host number after the rank."""
    whole = ipaddress.IPv4Network(fabric.network)
    subnet = int(whole.network_address) + (rail << (32 - PREFIX))
    return ipaddress.IPv4Interface((subnet + rank + 1, PREFIX))


def node_address(member: Member, rank: int) -> str:
    """Return the address at which all members reach a rank."""
    return str(address(member.fabric, rank, ring.node_subnet(rank) if member.fabric.ring else 0).ip)


def numbers(member: Member) -> tuple[int, ...]:
    """Return all rails that a Spark can be on."""
    return ring.rails(member.rank) if member.fabric.ring else tuple(range(MOST_RAILS))


def peers(member: Member, rail: int) -> tuple[tuple[str, str], ...]:
    """Return name and address of the other members on a rail."""
    ranks = ring.ranks_on(rail) if member.fabric.ring else range(len(member.hosts))
    return tuple(
        (member.hosts[rank], str(address(member.fabric, rank, rail).ip))
        for rank in ranks
        if rank != member.rank
    )


def route(member: Member, rail: Rail) -> Route | None:
    """Return the route over a rail: in a ring, to the next Spark, whose address is on another subnet."""
    if not member.fabric.ring or rail.number != ring.node_subnet(member.rank):
        return None
    following = ring.next_rank(member.rank)
    return Route(
        member.hosts[following],
        node_address(member, following),
        str(address(member.fabric, following, rail.number).ip),
    )


def rails(member: Member, fabric: ObservedFabric) -> tuple[Rail, ...]:
    """Return the rails of a Spark: the twins of each cabled cage, by cage and then by PCIe root.

    A cable may be in different cages at its two ends, so only cabled cages are numbered: the first twin of
    one Spark is on the same subnet as the first twin of the other. In a ring the cage identifies the cable,
    and a Spark with only one cable has no rails.
    """
    cabled = {cage(link) for link in fabric.links if link.carrier}
    links = sorted(
        (link for link in fabric.links if cage(link) in cabled),
        key=lambda link: (cage(link), link.root, link.name),
    )
    found = _of_ring(member, links) if member.fabric.ring else list(enumerate(links))
    return tuple(Rail(number, link, address(member.fabric, member.rank, number)) for number, link in found)


def _of_ring(member: Member, links: Sequence[Link]) -> list[tuple[int, Link]]:
    by_cage = {name: [link for link in links if link.cage == name] for name in ring.CAGES}
    if not all(by_cage.values()):
        return []
    return [
        (ring.rail(member.rank, name, twin), link)
        for name in ring.CAGES
        for twin, link in enumerate(by_cage[name])
    ]


def cage(link: Link) -> str:
    """Return the cage of a link; the netdev's name if the port is unknown."""
    return link.cage or link.name
