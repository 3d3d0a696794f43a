"""Interface to the Spark, so that every decision is tested without a runtime or systemd.

``host.py`` is the real one. Nothing outside ``host.py`` and ``runtimes`` accesses the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sparkfleet import runtimes
from sparkfleet.contract.command import CommandResult
from sparkfleet.contract.generation import STATE_DIR, Generation
from sparkfleet.runtimes.base import Instance, PortOwner, Runtime, Stop

PROGRAM = "/usr/local/lib/sparkfleet/sparkfleet.pyz"
"""Path of these programs on a Spark."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Directories that we write on a Spark."""

    state: Path = Path(STATE_DIR)
    units: Path = Path("/etc/systemd/system")
    bin: Path = Path("/usr/local/bin")
    netplan: Path = Path("/etc/netplan")
    rdma: Path = Path("/sys/class/infiniband")
    fstab: Path = Path("/etc/fstab")
    mountinfo: Path = Path("/proc/self/mountinfo")
    run: Path = Path("/run/sparkfleet")
    """In memory, gone with a reboot: what must be written while the disk cannot be."""
    units_beside: tuple[Path, ...] = (
        Path("/run/systemd/system"),
        Path("/etc/systemd/system.control"),
        Path("/run/systemd/system.control"),
    )
    """Where ``systemctl edit --runtime`` and ``systemctl set-property`` put what changes a unit."""


@dataclass(frozen=True)
class Memory:
    """Values of /proc/meminfo in MiB; ``pressure`` is PSI "full avg10" in percent, None without PSI."""

    total: int
    available: int
    free: int = 0
    cache: int = 0
    """Page cache and reclaimable slab without shared memory: what dropping caches can give."""
    pressure: float | None = None
    large_free: int | None = None
    """Free memory in large blocks (``valve.LARGE_BLOCK``, by /proc/buddyinfo); None: unknown."""


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request to a service on this Spark; ``timeout_s`` is for the whole response."""

    port: int
    method: str
    path: str
    timeout_s: float
    body: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: bool = False
    """HTTPS. The certificate is not verified: it is for the name that clients use, not for 127.0.0.1."""


@dataclass(frozen=True)
class HttpResponse:
    """An HTTP response. ``status`` 0: there was none, ``error`` is the reason."""

    status: int
    body: str = ""
    error: str = ""
    timed_out: bool = False


@dataclass(frozen=True)
class WatchdogProcess:
    """A process that kills one instance while memory is low."""

    low_mib: Callable[[], int | None]
    """Return MemAvailable (MiB) at its first kill; None: it has killed nothing."""
    stop: Stop


class System(Protocol):
    """Interface to the machine."""

    paths: Paths

    def runtime(self, name: str) -> Runtime:
        """Return the driver of a runtime. Raise RuntimeRefusedError for one that is not there."""

    def now(self) -> float:
        """Return unix time."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def every(self, seconds: float, call: Callable[[], None]) -> Stop:
        """Call ``call`` in the background, at once and then every ``seconds``."""

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        """Run a command to its end; 127 when it is not there, 124 when it took too long."""

    def memory(self) -> Memory:
        """Return the memory of this moment."""

    def watch_memory(self, floor_mib: int, instance: Instance) -> WatchdogProcess:
        """Start a process that SIGKILLs an instance while MemAvailable is below the floor."""

    def drop_caches(self) -> str:
        """Write dirty pages, then drop clean caches; return "" or why it could not be done."""

    def compact_memory(self) -> str:
        """Join free memory to larger blocks; return "" or why it could not be done."""

    def http(self, request: HttpRequest) -> HttpResponse:
        """Send an HTTP request to 127.0.0.1. Never raises."""

    def http_lines(self, request: HttpRequest, on_line: Callable[[str], None]) -> HttpResponse:
        """Send an HTTP request to 127.0.0.1; pass on each line of a response with status 200. Never
        raises.
        """

    def listen(self, address: str, port: int, respond: Callable[[dict[str, Any]], dict[str, Any]]) -> Stop:
        """Serve requests of other Sparks at ``address`` in the background. Raise OSError when that fails."""

    def ask_other(
        self, address: str, port: int, message: dict[str, Any], timeout_s: float
    ) -> dict[str, Any] | None:
        """Return another Spark's response; None without one. Never raises."""

    def port_owners(self, port: int) -> tuple[PortOwner, ...]:
        """Return the processes that listen on the TCP port."""

    def cgroup_of(self, pid: int) -> str:
        """Return the text of /proc/PID/cgroup; "" for a process that has ended."""

    def free_mib(self, path: Path) -> int:
        """Return the MiB that root may still write to the file system of ``path``."""

    def kill_now(self, runtime: Runtime, instance: Instance) -> None:
        """SIGKILL its processes directly, also when the runtime's daemon is slow."""


def systemctl(system: System, *argv: str, timeout_s: float = 180) -> CommandResult:
    """Run ``systemctl``; the caller judges the result."""
    return system.run(("systemctl", *argv), timeout_s)


def runtime_of(system: System, *generations: Generation | None) -> Runtime:
    """Return the driver that the first of these generations runs in; without any, the default one.

    Raise RuntimeRefusedError for a runtime that is not there.
    """
    names = (one.runtime for one in generations if one)
    return system.runtime(next(names, runtimes.DEFAULT))


__all__ = [
    "PROGRAM",
    "CommandResult",
    "HttpRequest",
    "HttpResponse",
    "Memory",
    "Paths",
    "PortOwner",
    "Stop",
    "System",
    "WatchdogProcess",
    "runtime_of",
    "systemctl",
]
