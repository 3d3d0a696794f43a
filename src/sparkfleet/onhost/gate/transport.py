"""What NCCL says in an engine's log that it uses between Sparks: RDMA, or TCP in silence. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

RDMA, TCP, UNKNOWN = "rdma", "tcp", ""

_SAYS = (
    # NCCL's own words, of 2.18 to 2.28: which plugin was chosen, what a channel goes over, what was found.
    (re.compile(r"NCCL INFO .*\bUsing network IB\w*\b"), RDMA),
    (re.compile(r"NCCL INFO .*\bUsing network Socket\b"), TCP),
    (re.compile(r"NCCL INFO Channel .* via NET/IB\w*/"), RDMA),
    (re.compile(r"NCCL INFO Channel .* via NET/Socket/"), TCP),
    (re.compile(r"NCCL INFO NET/IB : Using \[0\]"), RDMA),
    (re.compile(r"NCCL INFO NET/Socket : Using \[0\]"), TCP),
)


@dataclass(frozen=True)
class Transport:
    """How an engine's ranks exchange data, and the line that says so."""

    kind: str = UNKNOWN
    """``rdma``, ``tcp``, or "" when the log does not say."""
    line: str = ""


def transport(lines: Iterable[str]) -> Transport:
    """Return what the ranks of an engine use. One channel over TCP is TCP: it makes all wait.

    Within a process NCCL may look at sockets first and then use RDMA; what it chose is said with ``Using
    network`` and for each channel, and counts more than what it found.
    """
    found: dict[int, str] = {}
    for line in lines:
        for order, (pattern, _) in enumerate(_SAYS):
            if order not in found and pattern.search(line):
                found[order] = line.strip()
    for weight in ((0, 1, 2, 3), (4, 5)):
        for kind in (TCP, RDMA):
            said = [found[order] for order in weight if order in found and _SAYS[order][1] == kind]
            if said:
                return Transport(kind, said[0])
    return Transport()
