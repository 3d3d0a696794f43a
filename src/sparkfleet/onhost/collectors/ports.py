"""Which process listens on which TCP port."""

from __future__ import annotations

import os

from sparkfleet.onhost.collectors import basics

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LISTENING, CONNECTED = "0A", "01"
"""States; the kernel lists all listening sockets before any other."""
LINE = 150
"""Bytes of a line in the kernel's table."""


def listeners(requested: Iterable[int] = (), likely: Iterable[int] = ()) -> dict[str, dict[str, Any]]:
    """Return the listening TCP ports, each with process id and command where they can be found out.

    ``requested``: only these ports; () for all. ``likely``: processes to check before all others, of which
    there are hundreds.
    """
    near = {socket: pid for pid in likely for socket in sockets_of(pid)}
    inodes: dict[str, int] = {}
    for table in TABLES:
        if requested and set(requested) <= set(inodes.values()):
            break
        for socket, port in _listening(table):
            if not requested or port in requested:
                inodes[socket] = port
                if requested and set(requested) <= {inodes[one] for one in near if one in inodes}:
                    break
    found: dict[str, dict[str, Any]] = {str(port): {"pid": 0, "command": ""} for port in inodes.values()}
    for socket, pid in near.items():
        if socket in inodes:
            found[str(inodes[socket])] = process(pid)

    def all_known() -> bool:
        return all(seen["pid"] for seen in found.values())

    for pid in () if all_known() else _processes():
        for socket in sockets_of(pid):
            if socket in inodes:
                found[str(inodes[socket])] = process(pid)
        if all_known():
            break
    return found


def process(pid: int) -> dict[str, Any]:
    """Return a process's id, command and cgroup."""
    argv = (basics.read_text("/proc/%d/cmdline" % pid) or "").split("\0")
    cgroup = (basics.read_text("/proc/%d/cgroup" % pid) or "")[-300:]
    return {"pid": pid, "command": " ".join(argv).strip()[:200], "cgroup": cgroup}


def _listening(table: str) -> Iterator[tuple[str, int]]:
    """Yield the listening sockets of a table of the kernel, and their ports."""
    for line in lines_of(table):
        fields = line.split()
        if fields[3] == CONNECTED:
            break
        if fields[3] == LISTENING:
            yield "socket:[%s]" % fields[9], int(fields[1].rsplit(":", 1)[1], 16)


def lines_of(table: str) -> Iterator[str]:
    """Yield the lines of one of the kernel's tables of sockets, listening ones first.

    Line by line: behind the last listener the kernel walks through its whole table of connections at each
    read, 2 ms and on a Spark more. A caller that has found enough does not read that far.
    """
    try:
        file = os.open(table, os.O_RDONLY)
    except FileNotFoundError:
        return  # a kernel without IPv6
    try:
        heading, rest = True, b""
        while chunk := os.read(file, LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not heading:
                    yield line.decode()
                heading = False
    finally:
        os.close(file)


def _processes() -> Iterator[int]:
    yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def sockets_of(pid: int) -> Iterator[str]:
    """Yield the sockets of a process, as its open files name them."""
    folder = "/proc/%d/fd" % pid
    try:
        names = os.listdir(folder)
    except OSError:
        return  # it has ended
    for name in names:
        try:
            yield os.readlink("%s/%s" % (folder, name))
        except OSError:
            continue
