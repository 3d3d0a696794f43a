"""Throughput of the links between two Sparks: by RDMA if both have it, else by TCP.

One Spark listens (``begin``), the other sends (``measure``): over each link on its own, then over all,
since a single one never fills a cage. This slows down running services.
"""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.fabric import (
    IPERF,
    NOT_MEASURED,
    RDMA,
    STREAM,
    TOOLS,
    BenchRequest,
    BenchResult,
    Lane,
    LinkRate,
    StreamResult,
)
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.memory_max import JOB_MIB, memory_max
from sparkfleet.onhost.machine.system import CommandResult, System, systemctl
from sparkfleet.onhost.state import units

PORT = 18515
"""First of the ports: one for each measurement."""
STREAMS = 4
"""Parallel TCP streams: a single one is slower than the link."""
TRIES = 10
"""Attempts of a sender, a second apart: the other end may not listen yet."""
SPARE_S = 30
"""Seconds beyond the measurements after which a listener ends by itself."""


def tools() -> list[str]:
    """Return the programs of this Spark that can measure links."""
    return [tool for tool in TOOLS if tool == STREAM or shutil.which(tool)]


def listener(tool: str, lane: Lane, port: int, seconds: int) -> tuple[str, ...]:
    """Return the command that listens for one measurement of a lane."""
    if tool == RDMA:
        return (RDMA, *_rdma(lane, port, seconds))
    if tool == IPERF:
        return (IPERF, "-s", "-1", "-B", lane.own, "-p", str(port))
    return (*units.PYTHON.split(), "bench-sink", lane.own, lane.peer, str(port))


def sender(tool: str, lane: Lane, port: int, seconds: int) -> tuple[str, ...]:
    """Return the command that measures a lane."""
    if tool == RDMA:
        return (RDMA, *_rdma(lane, port, seconds), lane.peer)
    if tool == IPERF:
        how = ("-t", str(seconds), "-P", str(STREAMS), "-J")
        return (IPERF, "-c", lane.peer, "-B", lane.own, "-p", str(port), *how)
    return (*units.PYTHON.split(), "bench-source", lane.own, lane.peer, str(port), str(seconds))


def _rdma(lane: Lane, port: int, seconds: int) -> tuple[str, ...]:
    # Without an index of the GID table, which differs between Sparks: the program finds that of the address.
    return ("-d", lane.device, "-p", str(port), "-F", "--report_gbits", "-D", str(seconds))


def gbits(tool: str, ran: CommandResult) -> float | None:
    """Return the Gb/s that a sender reported; None: it did not."""
    if ran.code:
        return None
    try:
        if tool == IPERF:
            return float(json.loads(ran.out)["end"]["sum_received"]["bits_per_second"]) / 1e9
        if tool == STREAM:
            return codec.loads(StreamResult, ran.out).gbits
    except (ValueError, KeyError, TypeError):
        return None
    # bytes, iterations, peak, average, rate. In a run limited by time, the peak is 0.00.
    rows = re.findall(r"^ *\d+ +\d+ +[\d.]+ +([\d.]+) +[\d.]+ *$", ran.out, re.MULTILINE)
    return float(rows[-1]) if rows else None


def begin(system: System, request: BenchRequest) -> None:
    """Start a detached listener for each measurement. Raise SparkfleetError when one does not start."""
    for number, (lane, port) in enumerate(_ports(request)):
        unit = f"{_unit(request)}-{number}.service"
        systemctl(system, "stop", unit)
        limits = (f"RuntimeMaxSec={_total_s(request) + SPARE_S}", memory_max(JOB_MIB), "Nice=5")
        bounds = tuple(f"--property={limit}" for limit in limits)
        argv = listener(request.tool, lane, port, request.seconds)
        result = system.run(("systemd-run", "--quiet", "--collect", f"--unit={unit}", *bounds, *argv))
        if result.code:
            message, hint = f"{argv[0]}: {result.text}", f"journalctl -u {unit}, then run again"
            raise SparkfleetError(Diagnostic(unit, message, hint=hint, code="unit-failed"))


def end(system: System, request: BenchRequest) -> None:
    """Stop the remaining listeners."""
    for number, _ in enumerate(_ports(request)):
        systemctl(system, "stop", f"{_unit(request)}-{number}.service")


def _unit(request: BenchRequest) -> str:
    return f"sparkfleet-bench-{request.cluster}"


def _ports(request: BenchRequest) -> list[tuple[Lane, int]]:
    """Return lanes and ports: first each lane on its own, then all at once."""
    return [(lane, PORT + number) for number, lane in enumerate(request.lanes * 2)]


def _total_s(request: BenchRequest) -> int:
    return (len(request.lanes) + 1) * (request.seconds + TRIES)


def measure(system: System, request: BenchRequest) -> BenchResult:
    """Send over each lane on its own, then over all at once; write the result as evidence and return it."""
    ports = _ports(request)
    half = len(request.lanes)
    alone = tuple(_one(system, request, lane, port) for lane, port in ports[:half])
    with ThreadPoolExecutor(half) as pool:
        at_once = tuple(pool.map(lambda pair: _one(system, request, *pair), ports[half:]))
    at = round(system.now())
    result = BenchResult(request.cluster, request.other, request.tool, at, alone, at_once)
    path = system.paths.state / "evidence" / f"bench-{request.cluster}-{request.other}.json"
    files.write_document(path, result)
    return result


def _one(system: System, request: BenchRequest, lane: Lane, port: int) -> LinkRate:
    argv, problem = sender(request.tool, lane, port, request.seconds), ""
    for _ in range(TRIES):
        ran = system.run(argv, timeout_s=request.seconds + SPARE_S)
        rate = gbits(request.tool, ran)
        if rate is not None:
            return LinkRate(lane.link, rate)
        problem = ran.text.splitlines()[-1][:300] if ran.text else f"exit code {ran.code}"
        system.sleep(1)
    hint = f"check the cable and `ip link show {lane.link}` on both Sparks, then run again"
    wrong = Diagnostic(lane.link, f"{request.tool}: {problem}", hint=hint, code=NOT_MEASURED)
    return LinkRate(lane.link, diagnostic=wrong)
