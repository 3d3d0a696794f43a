"""How much goes over the links between two Sparks: by RDMA where both ends have it, else by TCP.

One Spark is asked to listen (``begin``), the other to send (``measure``): over each link by itself, then over
all at once, since one alone never fills a cage. What serves meanwhile is slowed down.
"""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sparkfleet.contract.fabric import IPERF, RDMA, STREAM, TOOLS, BenchRequest, Lane
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import Ran, System, systemctl
from sparkfleet.onhost.state import units

PORT = 18515
"""First of the ports; one for each link and each time that it is measured."""
STREAMS = 4
"""TCP streams at once: one alone is slower than the link."""
TRIES = 10
"""Times that a sender begins anew, a second apart: the other end may not listen yet."""
SPARE_S = 30
"""Seconds after which a listener ends by itself, beside those that are measured."""


def tools() -> list[str]:
    """Return the programs that this Spark can measure with."""
    return [tool for tool in TOOLS if tool == STREAM or shutil.which(tool)]


def listener(tool: str, lane: Lane, port: int, seconds: int) -> tuple[str, ...]:
    """Return the command that waits for one measurement of a lane."""
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
    # No index of the GID table: the program finds that of the address, which differs between Sparks.
    return ("-d", lane.device, "-p", str(port), "-F", "--report_gbits", "-D", str(seconds))


def gbits(tool: str, ran: Ran) -> float | None:
    """Return the Gb/s that a sender told; None when it did not."""
    if ran.code:
        return None
    try:
        if tool == IPERF:
            return float(json.loads(ran.out)["end"]["sum_received"]["bits_per_second"]) / 1e9
        if tool == STREAM:
            return float(json.loads(ran.out)["gbits"])
    except (ValueError, KeyError, TypeError):
        return None
    # bytes, iterations, peak, average, rate. By time the peak is 0.00, and only the average is a figure.
    rows = re.findall(r"^\s*\d+\s+\d+\s+[\d.]+\s+([\d.]+)\s+[\d.]+\s*$", ran.out, re.MULTILINE)
    return float(rows[-1]) if rows else None


def begin(system: System, request: BenchRequest) -> str:
    """Start a listener for each measurement, detached; return "" or what failed."""
    for number, (lane, port) in enumerate(_ports(request)):
        unit = f"{_unit(request)}-{number}.service"
        systemctl(system, "stop", unit)
        bounds = (f"--property=RuntimeMaxSec={_all_of_it(request) + SPARE_S}", "--property=Nice=5")
        argv = listener(request.tool, lane, port, request.seconds)
        done = system.run(("systemd-run", "--quiet", "--collect", f"--unit={unit}", *bounds, *argv))
        if done.code:
            return f"{argv[0]}: {done.text}"
    return ""


def end(system: System, request: BenchRequest) -> None:
    """Stop the listeners that are left."""
    for number, _ in enumerate(_ports(request)):
        systemctl(system, "stop", f"{_unit(request)}-{number}.service")


def _unit(request: BenchRequest) -> str:
    return f"sparkfleet-bench-{request.cluster}"


def _ports(request: BenchRequest) -> list[tuple[Lane, int]]:
    """Return lanes and ports: first each lane by itself, then all at once."""
    return [(lane, PORT + number) for number, lane in enumerate(request.lanes * 2)]


def _all_of_it(request: BenchRequest) -> int:
    return (len(request.lanes) + 1) * (request.seconds + TRIES)


def measure(system: System, request: BenchRequest) -> dict[str, Any]:
    """Send over each lane by itself, then over all at once; keep the figures as evidence and return them."""
    ports = _ports(request)
    half = len(request.lanes)
    alone = [_one(system, request, lane, port) for lane, port in ports[:half]]
    with ThreadPoolExecutor(half) as pool:
        at_once = list(pool.map(lambda pair: _one(system, request, *pair), ports[half:]))
    told = {
        "cluster": request.cluster,
        "to": request.other,
        "tool": request.tool,
        "at": round(system.now()),
        "alone": alone,
        "at_once": at_once,
    }
    files.write_json(system.paths.state / "evidence" / f"bench-{request.cluster}-{request.other}.json", told)
    return told


def _one(system: System, request: BenchRequest, lane: Lane, port: int) -> dict[str, Any]:
    argv = sender(request.tool, lane, port, request.seconds)
    told: dict[str, Any] = {"link": lane.link, "gbits": None, "problem": ""}
    for _ in range(TRIES):
        ran = system.run(argv, timeout_s=request.seconds + SPARE_S)
        told["gbits"] = gbits(request.tool, ran)
        if told["gbits"] is not None:
            return {**told, "problem": ""}
        told["problem"] = ran.text.splitlines()[-1][:300] if ran.text else f"exit code {ran.code}"
        system.sleep(1)
    return told
