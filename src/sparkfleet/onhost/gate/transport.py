"""What NCCL uses between Sparks according to an engine's log: RDMA, or TCP without a warning. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

RDMA, TCP, UNKNOWN = "rdma", "tcp", ""

_SAYS = (
    # NCCL's messages, of 2.18 to 2.28: the plugin chosen, a channel's transport, the devices found.
    (re.compile(r"NCCL INFO .*\bUsing network IB\w*\b"), RDMA),
    (re.compile(r"NCCL INFO .*\bUsing network Socket\b"), TCP),
    (re.compile(r"NCCL INFO Channel .* via NET/IB\w*/"), RDMA),
    (re.compile(r"NCCL INFO Channel .* via NET/Socket/"), TCP),
    (re.compile(r"NCCL INFO NET/IB : Using \[0\]"), RDMA),
    (re.compile(r"NCCL INFO NET/Socket : Using \[0\]"), TCP),
)


@dataclass(frozen=True)
class Transport:
    """How an engine's ranks exchange data, and the log line that shows it."""

    kind: str = UNKNOWN
    """``rdma``, ``tcp``, or "" when the log does not show it."""
    line: str = ""


def transport(lines: Iterable[str]) -> Transport:
    """Return what the ranks of an engine use. One channel over TCP counts as TCP: all wait for it.

    NCCL may probe sockets first and then use RDMA; its choice is logged with ``Using network`` and for each
    channel, and counts more than what it found.
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
