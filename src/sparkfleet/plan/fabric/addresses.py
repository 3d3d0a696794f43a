"""Who has which address on the fabric: a rail is a subnet, a rank is a number in it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sparkfleet.probe.links import FabricSeen, Link
from sparkfleet.spec.resolved import Fabric, Member

PREFIX = 24
"""Length of a rail's prefix: 254 Sparks in one cluster."""


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


def peers(member: Member, rail: int) -> tuple[tuple[str, str], ...]:
    """Return name and address of the other members on a rail."""
    return tuple(
        (name, str(address(member.fabric, rank, rail).ip))
        for rank, name in enumerate(member.hosts)
        if rank != member.rank
    )


def rails(member: Member, seen: FabricSeen) -> tuple[Rail, ...]:
    """Return the rails of a Spark: the twins of each cabled cage, by cage and then by PCIe root.

    Cables may be in different cages at their two ends: rails are counted over the cages that have one, so
    that the first twin of one Spark is on the same subnet as the first twin of the other.
    """
    cabled = {cage(link) for link in seen.links if link.carrier}
    links = sorted(
        (link for link in seen.links if cage(link) in cabled),
        key=lambda link: (cage(link), link.root, link.name),
    )
    return tuple(
        Rail(number, link, address(member.fabric, member.rank, number)) for number, link in enumerate(links)
    )


def cage(link: Link) -> str:
    """Return the cage of a link; one whose port is not known has a cage of its own."""
    return link.cage or link.name
