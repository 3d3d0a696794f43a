"""RDMA memory regions of an engine that ended, and the GIDs at which the next one is reached.

While the kernel still holds the regions of the last engine, the next one may fail to register its own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from sparkfleet.contract.generation import Generation
from sparkfleet.onhost.machine.system import System

RELEASED_S = 60.0
"""Seconds between stop and start for the kernel to release the RDMA memory regions of the last engine."""
GIDS_S = 60.0
"""Seconds before a start for each RDMA device to have a RoCEv2 GID with an IPv4 address."""
POLL_S = 1.0
_REGIONS = "RDMA memory regions of the last engine"
_LIST = ("rdma", "resource", "show", "mr")
_LIST_S, _NO_SUCH_COMMAND = 10.0, 127
_PID = re.compile(r"\bpid (\d+)")
_KERNEL = re.compile(r"\bcomm \[")
_DEVICE = re.compile(r"[=^]?([\w.-]+)")
ROCE_V2 = "RoCE v2"


def wait_for_release(
    system: System,
    containers: Collection[str],
    report: Callable[[str], None],
    ended: Callable[[], object] = lambda: False,
) -> None:
    """Return when no region of the ended ``containers`` is left, at the limit, or when ``ended`` is true.

    ``ended`` is called at each step, and may raise. ``report`` gets what was waited for, and what is unknown.
    """
    began = system.monotonic()
    count, unknown = _regions(system, containers)
    if count:
        report(f"{_REGIONS}: waiting for the release of {count}")
    waits = bool(count)
    while count and system.monotonic() - began < RELEASED_S and not ended():
        system.sleep(POLL_S)
        count, unknown = _regions(system, containers)
    after = f"after {system.monotonic() - began:.0f} s"
    if unknown:
        report(f"{_REGIONS}: unknown, {unknown}; starting anyway")
    elif count:
        report(f"{_REGIONS}: {count} are still registered {after}; starting anyway, a reboot releases them")
    elif waits:
        report(f"{_REGIONS}: released {after}")


def _regions(system: System, containers: Collection[str]) -> tuple[int, str]:
    """Return how many regions belong to ended processes or to ``containers``; or why that is unknown.

    The kernel names the process of a region while it lives, and the kernel's own users in brackets. A process
    that is ending still has its pid, and its container.
    """
    result = system.run(_LIST, _LIST_S)
    if result.code:
        no_tool = result.code == _NO_SUCH_COMMAND
        return 0, "there is no command rdma" if no_tool else result.text or f"rdma ended with {result.code}"
    count = 0
    for line in result.out.splitlines():
        pid = _PID.search(line)
        if pid and int(pid[1]):
            cgroup = system.cgroup_of(int(pid[1]))
            count += any(container in cgroup for container in containers)
        elif line.strip() and not _KERNEL.search(line):
            count += 1
    return count, ""


def wait_for_gids(
    system: System,
    generation: Generation,
    report: Callable[[str], None],
    ended: Callable[[], object] = lambda: False,
) -> None:
    """Return when each RDMA device of a rank has its GID, at the limit, or when ``ended`` is true.

    ``ended`` is called at each step, and may raise. ``report`` gets the indexes of this start, and what was
    waited for.

    NCCL chooses the same entry by itself, per device and at each start: version, family and addresses are in
    the rank's variables. The index changes with every change of a link, so it is in no variable.
    """
    devices = devices_of(generation)
    if not devices:
        return
    began, waits = system.monotonic(), False
    found = _indexes(system, generation, devices)
    while missing := [device for device, index in found.items() if index is None]:
        text = f"no RoCEv2 GID with an IPv4 address of the fabric: {', '.join(missing)}"
        if system.monotonic() - began >= GIDS_S:
            report(f"{text}; starting anyway after {GIDS_S:.0f} s: see `ip address` and `show_gids`")
            return
        if ended():
            return
        if not waits:
            report(f"waiting, {text}")
        waits = True
        system.sleep(POLL_S)
        found = _indexes(system, generation, devices)
    report("GID index of this start: " + ", ".join(f"{device} {index}" for device, index in found.items()))


def _indexes(system: System, generation: Generation, devices: Sequence[str]) -> dict[str, int | None]:
    network = _addresses(generation)
    return {device: gid_index(system.paths.rdma, device, network) for device in devices}


def devices_of(generation: Generation) -> tuple[str, ...]:
    """Return the RDMA devices of a rank; () for one without RDMA, or with another family of addresses."""
    env = dict(generation.env)
    if generation.rank is None or env.get("NCCL_IB_ADDR_FAMILY") != "AF_INET":
        return ()
    names = (_DEVICE.match(one.strip().partition(":")[0]) for one in env.get("NCCL_IB_HCA", "").split(","))
    return tuple(name[1] for name in names if name)


def _addresses(generation: Generation) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(dict(generation.env)["NCCL_IB_ADDR_RANGE"], strict=False)
    except (KeyError, ValueError):
        return None


def gid_index(rdma: Path, device: str, addresses: ipaddress.IPv4Network | None) -> int | None:
    """Return the first index of a RoCEv2 GID with an IPv4 address, of ``addresses`` if given; or None."""
    port = rdma / device / "ports/1"
    try:
        indexes = sorted(int(path.name) for path in (port / "gids").iterdir() if path.name.isdigit())
    except OSError:
        return None
    for index in indexes:
        address = _mapped(_word(port / "gids" / str(index)))
        if address is None or _word(port / "gid_attrs/types" / str(index)) != ROCE_V2:
            continue
        if addresses is None or address in addresses:
            return index
    return None


def _mapped(gid: str) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address of a GID in the kernel's spelling; None for one without."""
    try:
        return ipaddress.IPv6Address(gid).ipv4_mapped
    except ValueError:
        return None


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # an empty entry of the table cannot be read
        return ""
