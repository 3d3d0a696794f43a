"""The transport that NCCL uses between Sparks, from an engine's log: it falls back to TCP silently. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sparkfleet.onhost.gate import log_lines

RDMA, TCP, UNKNOWN = "rdma", "tcp", ""

_PATTERNS = (
    # Messages of NCCL 2.18 to 2.28: the selected plugin, a channel's transport, the devices found.
    (re.compile(r"NCCL INFO .{0,300}\bUsing network IB\w*\b"), RDMA),
    (re.compile(r"NCCL INFO .{0,300}\bUsing network Socket\b"), TCP),
    (re.compile(r"NCCL INFO Channel .{0,300} via NET/IB\w*/"), RDMA),
    (re.compile(r"NCCL INFO Channel .{0,300} via NET/Socket/"), TCP),
    (re.compile(r"NCCL INFO NET/IB : Using \[0\]"), RDMA),
    (re.compile(r"NCCL INFO NET/Socket : Using \[0\]"), TCP),
)


@dataclass(frozen=True)
class Transport:
    """The transport between an engine's ranks, and the log line that shows it."""

    kind: str = UNKNOWN
    """``rdma``, ``tcp``, or "" when the log does not show it."""
    line: str = ""


def transport(lines: Iterable[str]) -> Transport:
    """Return the transport of an engine's ranks: TCP when one channel uses it, since all others wait for it.

    The choices that NCCL logs (``Using network``, one line a channel) outrank the devices that it found.
    """
    lines_by_pattern: dict[int, str] = {}
    for line in map(log_lines.plain, lines):
        for order, (pattern, _) in enumerate(_PATTERNS):
            if order not in lines_by_pattern and pattern.search(line):
                lines_by_pattern[order] = line.strip()
    for weight in ((0, 1, 2, 3), (4, 5)):
        for kind in (TCP, RDMA):
            matching = [
                lines_by_pattern[order]
                for order in weight
                if order in lines_by_pattern and _PATTERNS[order][1] == kind
            ]
            if matching:
                return Transport(kind, matching[0])
    return Transport()
