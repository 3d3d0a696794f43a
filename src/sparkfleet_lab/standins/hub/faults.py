"""Faults that the lab sets at the hub, and the requests that the hub counted."""

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
    """What goes wrong, for requests whose path matches."""

    path: str = ".*"
    """Regular expression, searched in the request's path."""
    status: int = 0
    """Answer with this status instead; 0: no."""
    slow_bytes_per_s: float = 0
    break_after_bytes: int = -1
    """Close the connection after so many bytes of a body; -1: no."""
    corrupt: bool = False
    """Flip one bit in the middle of a body; length and hash headers stay as they were."""
    times: int = -1
    """How many requests it happens to; -1: all."""


class Faults:
    """The faults that are on."""

    def __init__(self) -> None:
        """Have none."""
        self._faults: list[Fault] = []
        self._left: list[int] = []
        self._lock = threading.Lock()

    def set(self, faults: list[Fault]) -> None:
        """Replace all of them."""
        with self._lock:
            self._faults = faults
            self._left = [fault.times for fault in faults]

    def befalling(self, command: str, path: str) -> Fault | None:
        """Return the fault that befalls a request, and count it; what befalls bodies spares HEAD."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                meant = fault.status or command == "GET"
                if meant and self._left[index] != 0 and re.search(fault.path, path):
                    self._left[index] -= 1
                    return fault
        return None


def faulty(chunks: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
    """Pass chunks on, slowed down, corrupted or cut as the fault says. Raise CutError after the last one."""
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
    """Of file bodies."""
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """``repo@commit/path`` -> requests (GET alone) and bytes."""

    def count_file(self, key: str, requests: int, size: int) -> None:
        """Add to one file's figures."""
        entry = self.files.setdefault(key, {"requests": 0, "bytes": 0})
        entry["requests"] += requests
        entry["bytes"] += size
        self.bytes += size
