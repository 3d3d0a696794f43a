"""Memory before and during an engine's start: the watchdog of the floor, and the wait for freed memory."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.onhost.machine.system import Memory, Stop, System, WatchdogProcess
from sparkfleet.runtimes.base import Instance

KEPT_SAMPLES = 7200
"""Samples of the trace (one a second): two hours."""
SHORT_STEADY, ENOUGH_STEADY = 60, 2
"""Samples, two a second, without a rise after which no more is expected: with too little, and with enough."""
SETTLED_MIB = 256
"""A rise smaller than this within a second counts as "no more is coming back"."""


class MemoryWatchdog:
    """Kills an engine when MemAvailable falls below the floor, before the Spark stops answering.

    A process of its own does that; a thread here records the memory, and kills, too.
    """

    def __init__(self, system: System, floor_mib: int, kill: Callable[[], None]) -> None:
        """Watch nothing yet."""
        self._system = system
        self._floor = floor_mib
        self._kill = kill
        self._lock = threading.Lock()
        self.trace: list[tuple[float, Memory]] = []
        self._low_mib: int | None = None
        self._process: WatchdogProcess | None = None

    def start(self, instance: Instance) -> Stop:
        """Watch until the returned function is called."""
        self._process = process = self._system.watch_memory(self._floor, instance)
        stop_samples = self._system.every(1.0, self.sample)

        def stop() -> None:
            stop_samples()
            process.stop()

        return stop

    @property
    def struck(self) -> int | None:
        """Return MemAvailable (MiB) at the moment of the kill; None without a kill."""
        if self._low_mib is None and self._process:
            self._low_mib = self._process.low_mib()
        return self._low_mib

    def sample(self) -> None:
        """Check once; below the floor: kill. Again while memory stays low: one kill may not be enough."""
        memory = self._system.memory()
        with self._lock:
            self.trace.append((self._system.now(), memory))
            del self.trace[:-KEPT_SAMPLES]
        if memory.available < self._floor:
            if self._low_mib is None:
                self._low_mib = memory.available
            self._kill()

    def diagnostic(self, service: str) -> Diagnostic | None:
        """Return why the service's engine was killed; None when it was not."""
        low = self.struck
        if low is None:
            return None
        return Diagnostic(
            service,
            f"memory ran out: MemAvailable fell to {low} MiB, below the floor of "
            f"{self._floor} MiB, so the engine was killed before the Spark stopped answering",
            hint="lower --gpu-memory-utilization, --max-model-len or --max-num-seqs, or stop what else uses "
            "memory",
            code="memory-floor",
        )

    def lowest(self) -> Memory | None:
        """Return the sample with the least available memory; None without samples."""
        with self._lock:
            return min((memory for _, memory in self.trace), key=lambda one: one.available, default=None)

    def csv(self) -> str:
        """Return the trace as a table."""
        rows = ["at,available_mib,free_mib,pressure_full_avg10,large_free_mib"]
        with self._lock:
            for at, memory in self.trace:
                pressure = "" if memory.pressure is None else f"{memory.pressure:g}"
                large = "" if memory.large_free is None else memory.large_free
                rows.append(f"{at:.1f},{memory.available},{memory.free},{pressure},{large}")
        return "\n".join(rows) + "\n"


REMEDY_KERNEL = (
    "raise or remove the service's `container: {memory: ...}`, or lower --max-model-len or --max-num-seqs; "
    "dmesg -T on the Spark shows what the kernel counted"
)


REMEDY_FRAGMENTED = (
    "run again: sparkfleet compacts memory before each start; if that does not help, reboot the Spark: "
    "compaction cannot move the pages of drivers (cat /proc/buddyinfo shows the free blocks)"
)


def wait_until_freed(
    system: System, need_mib: int, check: Callable[[], None] = lambda: None, limit_s: float = 90
) -> Memory:
    """Wait until the memory of stopped engines is freed (late on a Spark); return the last sample.

    It is freed when it stops rising; while less than ``need_mib`` is available, it may still come. ``check``
    is called at each step, and may raise.
    """
    started = system.monotonic()
    memory = system.memory()
    steady = 0
    while system.monotonic() - started < limit_s:
        check()
        system.sleep(0.5)
        now = system.memory()
        steady = steady + 1 if now.available - memory.available < SETTLED_MIB else 0
        memory = now
        if steady >= (SHORT_STEADY if memory.available < need_mib else ENOUGH_STEADY):
            break
    return memory
