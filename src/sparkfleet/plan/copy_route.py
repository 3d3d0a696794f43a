"""The links over which one Spark sends to another: shared fabric subnets first, then the LAN. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from sparkfleet.contract.transfer import FABRIC, LAN, Place

NEAR, FAR = 0, 1


@dataclass(frozen=True)
class Route:
    """Addresses where the sender listens, and the allowed peers."""

    listen: tuple[tuple[int, str], ...]
    """Distance (0: the fabric, 1: the LAN) and address of the sender."""
    peers: tuple[str, ...]
    """Addresses of the receiver."""

    def distance(self, address: str) -> int:
        """Return how far one of the sender's addresses is."""
        return next(distance for distance, known in self.listen if known == address)


def between(sender: Sequence[Place], receiver: Sequence[Place]) -> Route:
    """Return the links from one Spark to another."""
    theirs = _of(receiver, FABRIC)
    networks = {one.network for one in theirs}
    near = [one for one in _of(sender, FABRIC) if one.network in networks]
    far = _of(sender, LAN)
    return Route(
        listen=(*((NEAR, str(one.ip)) for one in near), *((FAR, str(one.ip)) for one in far)),
        peers=tuple(str(one.ip) for one in (*theirs, *_of(receiver, LAN))),
    )


def _of(places: Sequence[Place], kind: str) -> list[ipaddress.IPv4Interface]:
    return [ipaddress.IPv4Interface(place.address) for place in places if place.kind == kind]
