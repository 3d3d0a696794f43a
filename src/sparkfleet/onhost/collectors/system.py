"""The machine and its operating system."""

from __future__ import annotations

import os
import sys
import time

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def collect_system() -> dict[str, Any]:
    """Return architecture, kernel, Python, release of the system and of DGX OS, and the product's name."""
    return {
        # By the command: Python reports the architecture of its interpreter.
        "arch": commands.run("uname", "-m")[1].strip() or os.uname().machine,
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "os": variables("/etc/os-release").get("PRETTY_NAME", ""),
        "dgx": variables("/etc/dgx-release"),
        "product": (basics.read_text("/sys/class/dmi/id/product_name") or "").strip(),
    }


def variables(path: str) -> dict[str, str]:
    """Return the variables of a file like /etc/os-release."""
    pairs = (line.partition("=") for line in (basics.read_text(path) or "").splitlines())
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs if value}


def collect_clock(begin: float) -> dict[str, Any]:
    """Return the Unix time, whether the clock is synchronised, and the monotonic seconds since ``begin``."""
    # Not by timedatectl: it starts a service, and a probe leaves no trace.
    synchronised = "yes" if os.path.exists("/run/systemd/timesync/synchronized") else ""
    return {"synchronised": synchronised, "took_s": time.monotonic() - begin, "now": time.time()}
