"""Three Sparks without a switch: a cable between each two of them, and each cable on subnets of its own.

Port p0 of each Spark leads to port p1 of the next in ``hosts:``, as NVIDIA wires three. So cable *n* is that
of rank *n*'s p0. No subnet has all three on it: each Spark has one address by which the others know it. It
reaches that of the next by a route over their cable; that of the one before is on their cable itself.
"""

from __future__ import annotations

from collections.abc import Sequence

SPARKS = 3
"""Of four, opposite ones have no cable, and NCCL connects each with each."""
CAGES = ("p0", "p1")
TWINS = 2


def cable(rank: int, cage: str) -> int:
    """Return the cable in a cage of a rank."""
    return rank if cage == CAGES[0] else (rank - 1) % SPARKS


def rail(rank: int, cage: str, twin: int) -> int:
    """Return the subnet of a twin: two a cable, the twin of the lower PCIe root first."""
    return cable(rank, cage) * TWINS + twin


def rails(rank: int) -> tuple[int, ...]:
    """Return the subnets that a rank is on."""
    return tuple(rail(rank, cage, twin) for cage in CAGES for twin in range(TWINS))


def known_at(rank: int) -> int:
    """Return the subnet of the address by which all others know a rank: of its p0, first twin."""
    return rail(rank, CAGES[0], 0)


def following(rank: int) -> int:
    """Return the rank to which p0 leads."""
    return (rank + 1) % SPARKS


def at_ends(number: int) -> tuple[int, int]:
    """Return the two ranks on a subnet."""
    begins = number // TWINS
    return begins, following(begins)


def wiring(hosts: Sequence[str]) -> str:
    """Return in words which cable goes where."""
    ends = (f"{hosts[rank]} p0 to {hosts[following(rank)]} p1" for rank in range(SPARKS))
    return f"a ring is wired {', '.join(ends)}; the other way round is another order of 'hosts:'"
