"""Faults that the lab sets in the hub, and the hub's request counters."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


class CutError(Exception):
    """The connection is closed in the middle of a body."""


@dataclass(frozen=True)
class Fault:
    """A fault, for requests whose path matches."""

    path: str = ".*"
    """Regular expression, searched in the request's path."""
    status: int = 0
    """Respond with this status instead; 0: no."""
    slow_bytes_per_s: float = 0
    break_after_bytes: int = -1
    """Close the connection after this number of bytes of a body; -1: no."""
    corrupt: bool = False
    """Flip one bit in the middle of a body; length and hash headers stay the same."""
    times: int = -1
    """Number of requests that have the fault; -1: all."""


class Faults:
    """The active faults."""

    def __init__(self) -> None:
        """Start without faults."""
        self._faults: list[Fault] = []
        self._remaining: list[int] = []
        self._lock = threading.Lock()

    def set(self, faults: list[Fault]) -> None:
        """Replace all faults."""
        with self._lock:
            self._faults = faults
            self._remaining = [fault.times for fault in faults]

    def fault_of(self, command: str, path: str) -> Fault | None:
        """Return the fault of a request, and count it; faults of bodies do not apply to HEAD."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                applies = fault.status or command == "GET"
                if applies and self._remaining[index] != 0 and re.search(fault.path, path):
                    self._remaining[index] -= 1
                    return fault
        return None


def faulty(chunks: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
    """Pass chunks on, slowed down, corrupted or cut by the fault. Raise CutError after the last one."""
    sent = 0
    for index, chunk in enumerate(chunks):
        part = chunk
        if fault.corrupt and index == 0:
            middle = len(part) // 2
            part = part[:middle] + bytes([part[middle] ^ 1]) + part[middle + 1 :]
        if 0 <= fault.break_after_bytes < sent + len(part):
            yield part[: fault.break_after_bytes - sent]
            raise CutError
        if fault.slow_bytes_per_s:
            time.sleep(len(part) / fault.slow_bytes_per_s)
        sent += len(part)
        yield part


@dataclass
class Counters:
    """Requests since the start or the last reset."""

    requests: int = 0
    bytes: int = 0
    """Bytes of file bodies."""
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """``repo@commit/path`` -> requests (GET alone) and bytes."""

    def count_file(self, key: str, requests: int, size: int) -> None:
        """Add to one file's counters."""
        entry = self.files.setdefault(key, {"requests": 0, "bytes": 0})
        entry["requests"] += requests
        entry["bytes"] += size
        self.bytes += size
