"""What identifies a Spark, and what the members of a cluster should have in common: texts of files.

All of them are readable by every user; of SSH keys only the public ones are read.
"""

from __future__ import annotations

import os

from sparkfleet.onhost.collectors import basics

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

MEMINFO = "/proc/meminfo"
FILES = (
    *("/etc/machine-id", "/proc/cmdline", "/proc/driver/nvidia/version", "/proc/sys/kernel/random/boot_id"),
    MEMINFO,
)
FOLDERS = (("/sys/class/infiniband", "", "", "/fw_ver"), ("/etc/ssh", "ssh_host_", ".pub", ""))
"""Folder, begin and end of the names in it that count, and what follows each in the path of its file."""
LIMIT = 4096
CMA = ("CmaTotal:", "CmaFree:")
"""In /proc/meminfo, in KiB."""


def collect_machine(root: str = "") -> dict[str, Any]:
    """Return host name, kernel, contiguous memory, texts by path (None: no such file), and errors."""
    paths, texts, errors = list(FILES), {}, {}
    for folder, begin, end, rest in FOLDERS:
        try:
            names = os.listdir(root + folder)
            paths += [
                folder + "/" + name + rest for name in names if name.startswith(begin) and name.endswith(end)
            ]
        except FileNotFoundError:
            pass
        except OSError as error:
            errors[folder] = str(error)
    for path in paths:
        try:
            texts[path] = basics.read_text(root + path, LIMIT)
        except OSError as error:
            errors[path] = str(error)
    meminfo = (texts.pop(MEMINFO, None) or "").split()
    cma = [int(meminfo[meminfo.index(name) + 1]) if name in meminfo else None for name in CMA]
    host = os.uname()
    return {"name": host.nodename, "kernel": host.release, "texts": texts, "errors": errors, "cma": cma}
