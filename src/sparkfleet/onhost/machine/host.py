"""The real Spark behind ``system.System``."""

from __future__ import annotations

import ctypes
import http.client
import importlib.resources
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparkfleet.contract import command
from sparkfleet.onhost.machine import deadline, wire
from sparkfleet.onhost.machine.system import (
    CommandResult,
    HttpRequest,
    HttpResponse,
    Memory,
    Paths,
    Stop,
    WatchdogProcess,
)
from sparkfleet.onhost.machine.valve import LARGE_BLOCK
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import (
    Instance,
    PortOwner,
    Runtime,
    RuntimeRefusedError,
    RuntimeUnavailableError,
)

LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""
COMPACT, COMPACT_S = "/proc/sys/vm/compact_memory", 20.0
"""Seconds for the kernel to compact memory."""
RESPONSE_LIMIT = 8 << 20
"""Bytes of an HTTP response. An engine's metrics have about 0.1 MiB, an embedding of 8192 numbers 0.2 MiB."""
MEMINFO = "/proc/meminfo"
WATCHDOG = importlib.resources.files(__package__).joinpath("memory_watchdog.py").read_text(encoding="utf-8")
"""The program of a watchdog process, read now: the file may be replaced later."""
ENDS_S = 5.0
"""Seconds for a watchdog process to end after its stdin was closed."""
LONGEST_REPORT = 64
"""Bytes of its report."""


class Spark:
    """The machine that this program runs on."""

    def __init__(self, paths: Paths | None = None) -> None:
        """Open nothing yet."""
        self.paths = paths or Paths()

    def runtime(self, name: str) -> Runtime:
        """Return the driver of a runtime."""
        return onhost.runtime(name)

    def now(self) -> float:
        """Return unix time."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def every(self, seconds: float, call: Callable[[], None]) -> Stop:
        """Call ``call`` in a thread, at once and then every ``seconds``."""
        ended = threading.Event()

        def repeat() -> None:
            while not ended.is_set():
                call()
                ended.wait(seconds)

        threading.Thread(target=repeat, daemon=True).start()
        return ended.set

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        """Run a command to its end. One that hangs in the kernel (a GPU driver) is left at the limit."""
        return command.run(argv, timeout_s)

    def memory(self) -> Memory:
        """Return the memory of this moment."""
        try:
            pressure = Path("/proc/pressure/memory").read_text(encoding="ascii")
        except OSError:
            pressure = ""
        meminfo = Path(MEMINFO).read_text(encoding="ascii")
        return parse_memory(meminfo, pressure, _read("/proc/buddyinfo"), os.sysconf("SC_PAGE_SIZE"))

    def watch_memory(self, floor_mib: int, instance: Instance) -> WatchdogProcess:
        """Start the watchdog process. Without memory for it, the thread of ``MemoryWatchdog`` is left."""
        argv = (sys.executable, "-I", "-S", "-B", "-c", WATCHDOG, MEMINFO)
        try:
            process = subprocess.Popen(
                (*argv, str(floor_mib), str(instance.pid), instance.cgroup or instance.id),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        except OSError:
            return WatchdogProcess(lambda: None, lambda: None)
        reported, stdin = process.stdout, process.stdin
        assert reported is not None and stdin is not None  # noqa: S101, PT018  (both are pipes)
        os.set_blocking(reported.fileno(), False)
        seen: list[int] = []

        def low_mib() -> int | None:
            if not seen and not reported.closed:
                seen.extend(int(line) for line in (reported.read(LONGEST_REPORT) or b"").split())
            return seen[0] if seen else None

        def stop() -> None:
            stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDS_S)
            process.kill()
            low_mib()
            reported.close()

        return WatchdogProcess(low_mib, stop)

    def drop_caches(self) -> str:
        """Write dirty pages, then drop clean caches; return "" or why it could not be done."""
        os.sync()
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
        except OSError as error:
            return f"/proc/sys/vm/drop_caches: {error.strerror}"
        return ""

    def compact_memory(self) -> str:
        """Join free memory to larger blocks, in a process that the limit can end."""
        done = self.run(("sh", "-c", f"echo 1 > {COMPACT}"), COMPACT_S)
        return "" if done.code == 0 else f"{COMPACT}: {done.text}"

    def http(self, request: HttpRequest) -> HttpResponse:
        """Send an HTTP request to 127.0.0.1."""
        return _exchanged(request, _whole)

    def http_lines(self, request: HttpRequest, on_line: Callable[[str], None]) -> HttpResponse:
        """Send an HTTP request to 127.0.0.1; pass on each line of a response with status 200."""

        def lines(response: http.client.HTTPResponse) -> HttpResponse:
            if response.status != http.HTTPStatus.OK:
                return _whole(response)
            left = RESPONSE_LIMIT
            while left > 0 and (line := response.readline(left)):
                left -= len(line)
                on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
            return HttpResponse(response.status) if left > 0 else _TOO_LONG

        return _exchanged(request, lines)

    def listen(self, address: str, port: int, respond: Callable[[dict[str, Any]], dict[str, Any]]) -> Stop:
        """Serve requests of other Sparks."""
        return wire.listen(address, port, respond)

    def ask_other(
        self, address: str, port: int, message: dict[str, Any], timeout_s: float
    ) -> dict[str, Any] | None:
        """Send a request to another Spark."""
        return wire.ask(address, port, message, timeout_s)

    def port_owners(self, port: int) -> tuple[PortOwner, ...]:
        """Return the processes that listen on the TCP port."""
        inodes: set[str] = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            try:
                inodes |= listening_inodes(Path(table).read_text(encoding="ascii"), port)
            except OSError:
                continue
        if not inodes:
            return ()
        owners = tuple(owner for pid in _pids() if (owner := _port_owner(pid, inodes)))
        return owners or (PortOwner(0, "a process that is not visible here"),)

    def cgroup_of(self, pid: int) -> str:
        """Return the text of /proc/PID/cgroup."""
        return _read(f"/proc/{pid}/cgroup")

    def free_mib(self, path: Path) -> int:
        """Return the MiB still free on the file system of ``path`` or of its nearest parent that exists."""
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free >> 20

    def kill_now(self, runtime: Runtime, instance: Instance) -> None:
        """SIGKILL its first process, with it go all others; the runtime's daemon only as a fallback."""
        if instance.pid and instance.has_process(_read(f"/proc/{instance.pid}/cgroup")):
            try:
                os.kill(instance.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            return
        try:
            runtime.kill(instance.id)
        except (RuntimeRefusedError, RuntimeUnavailableError):
            return


_TOO_LONG = HttpResponse(0, error=f"the response is longer than {RESPONSE_LIMIT >> 20} MiB")


def _whole(response: http.client.HTTPResponse) -> HttpResponse:
    content = response.read(RESPONSE_LIMIT + 1)
    if len(content) > RESPONSE_LIMIT:
        return _TOO_LONG
    return HttpResponse(response.status, content.decode("utf-8", "replace"))


def _exchanged(
    request: HttpRequest, read: Callable[[http.client.HTTPResponse], HttpResponse]
) -> HttpResponse:
    """Send a request to 127.0.0.1, and return what ``read`` makes of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", request.port)
    try:
        connected = deadline.connected("127.0.0.1", request.port, request.timeout_s)
        connection.sock = deadline.with_tls(connected) if request.tls else connected
        body = request.body.encode() or None
        connection.request(request.method, request.path, body, dict(request.headers))
        return read(connection.getresponse())
    except TimeoutError:
        return HttpResponse(0, error=f"no answer within {request.timeout_s:g} s", timed_out=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return HttpResponse(0, error=str(error) or type(error).__name__)
    finally:
        connection.close()


def stay_in_memory() -> None:
    """Keep this program's pages in memory: a watchdog that must be read back from disk is too late."""
    current, future, on_fault = 1, 2, 4
    try:
        ctypes.CDLL(None, use_errno=True).mlockall(current | future | on_fault)
    except (OSError, AttributeError):
        return


def parse_memory(meminfo: str, pressure: str = "", buddyinfo: str = "", page: int = 4096) -> Memory:
    """Return the figures of /proc/meminfo (kB there), /proc/pressure/memory and /proc/buddyinfo."""
    kib = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", meminfo, re.MULTILINE)}
    full = re.search(r"^full avg10=([\d.]+)", pressure, re.MULTILINE)
    cache = kib.get("Cached", 0) + kib.get("Buffers", 0) + kib.get("SReclaimable", 0) - kib.get("Shmem", 0)
    return Memory(
        total=kib["MemTotal"] >> 10,
        available=kib["MemAvailable"] >> 10,
        free=kib.get("MemFree", 0) >> 10,
        cache=max(0, cache) >> 10,
        pressure=float(full[1]) if full else None,
        large_free=_large_free(buddyinfo, page),
    )


def _large_free(buddyinfo: str, page: int) -> int | None:
    """Return the MiB in large blocks. A row of /proc/buddyinfo is a zone: its blocks of 1, 2, 4 ... pages."""
    rows = re.findall(r"^Node +\d+, zone +\w+ +([\d ]+)$", buddyinfo, re.MULTILINE)
    blocks = [(page << order, int(count)) for row in rows for order, count in enumerate(row.split())]
    smallest = min(LARGE_BLOCK, max((size for size, _ in blocks), default=0))
    return sum(size * count for size, count in blocks if size >= smallest) >> 20 if rows else None


def listening_inodes(table: str, port: int) -> set[str]:
    """Return the socket inodes of /proc/net/tcp rows that listen on ``port``."""
    found = set()
    for row in table.splitlines()[1:]:
        fields = row.split()
        if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(fields[9])
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _port_owner(pid: int, inodes: set[str]) -> PortOwner | None:
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            link = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if link.startswith("socket:[") and link[8:-1] in inodes:
                argv = _read(f"/proc/{pid}/cmdline").split("\0")
                return PortOwner(pid, " ".join(argv)[:120].strip(), _read(f"/proc/{pid}/cgroup"))
    except OSError:
        return None
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
