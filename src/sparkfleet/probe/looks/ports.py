"""Who listens on which TCP port."""

from __future__ import annotations

import contextlib
import os

from sparkfleet.probe.looks import basics

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def listeners(wanted: Iterable[int] = (), likely: Iterable[int] = ()) -> dict[str, dict[str, Any]]:
    """Return the listening TCP ports with the process id and command where they can be told.

    ``wanted``: these ports alone. ``likely``: processes to look at before all others (an engine has its port
    itself, and there are hundreds of processes).
    """
    inodes: dict[str, int] = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        if wanted and set(wanted) <= set(inodes.values()):
            break  # the kernel walks through its whole table for each: 4 ms, on a Spark more
        for line in (basics.read_text(name) or "").splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == "0A" and (not wanted or port in wanted):
                inodes["socket:[%s]" % fields[9]] = port
    found = {str(port): {"pid": 0, "command": ""} for port in inodes.values()}
    for pid in (*likely, *(int(name) for name in os.listdir("/proc") if name.isdigit())):
        if all(seen["pid"] for seen in found.values()):
            break
        with contextlib.suppress(OSError):
            for fd in os.listdir("/proc/%d/fd" % pid):
                with contextlib.suppress(OSError):
                    held = inodes.get(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
                    if held is not None:
                        words = (basics.read_text("/proc/%d/cmdline" % pid) or "").split("\0")
                        found[str(held)] = {
                            "pid": pid,
                            "command": " ".join(words).strip()[:200],
                            "cgroup": (basics.read_text("/proc/%d/cgroup" % pid) or "")[-300:],
                        }
    return found
