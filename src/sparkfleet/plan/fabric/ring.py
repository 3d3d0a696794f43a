"""Three Sparks without a switch: a cable between each pair, and each cable with its own subnets.

Port p0 of each Spark is connected to port p1 of the next in ``hosts:``, as in NVIDIA's guide. So cable *n* is
that of rank *n*'s p0. No subnet has all three Sparks: each Spark has one node address. The next Spark's is
reached by a route over their cable; the previous one's is on their cable.
"""

from __future__ import annotations

from collections.abc import Sequence

SPARKS = 3
"""In a ring of four, opposite Sparks have no cable, but NCCL connects all pairs."""
CAGES = ("p0", "p1")
TWINS = 2


def cable(rank: int, cage: str) -> int:
    """Return the cable in a cage of a rank."""
    return rank if cage == CAGES[0] else (rank - 1) % SPARKS


def rail(rank: int, cage: str, twin: int) -> int:
    """Return the subnet of a twin: two per cable, the twin of the lower PCIe root first."""
    return cable(rank, cage) * TWINS + twin


def rails(rank: int) -> tuple[int, ...]:
    """Return the subnets that a rank is on."""
    return tuple(rail(rank, cage, twin) for cage in CAGES for twin in range(TWINS))


def node_subnet(rank: int) -> int:
    """Return the subnet of a rank's node address: its p0, first twin."""
    return rail(rank, CAGES[0], 0)


def next_rank(rank: int) -> int:
    """Return the rank at the other end of p0."""
    return (rank + 1) % SPARKS


def ranks_on(number: int) -> tuple[int, int]:
    """Return the two ranks on a subnet."""
    begins = number // TWINS
    return begins, next_rank(begins)


def wiring(hosts: Sequence[str]) -> str:
    """Return a description of the wiring."""
    ends = (f"{hosts[rank]} p0 to {hosts[next_rank(rank)]} p1" for rank in range(SPARKS))
    return f"a ring is wired {', '.join(ends)}; the other way round is another order of 'hosts:'"
