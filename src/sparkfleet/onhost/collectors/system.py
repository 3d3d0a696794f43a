"""What machine and what system this is."""

from __future__ import annotations

import os
import sys
import time

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def look_at_system() -> dict[str, Any]:
    """Return architecture, kernel, release of the system and of DGX OS, and the product's name."""
    return {
        # The command, as people ask it; python's own answer is that of its interpreter.
        "arch": commands.run("uname", "-m")[1].strip() or os.uname().machine,
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "os": variables("/etc/os-release").get("PRETTY_NAME", ""),
        "dgx": variables("/etc/dgx-release"),
        "product": (basics.read_text("/sys/class/dmi/id/product_name") or "").strip(),
    }


def variables(path: str) -> dict[str, str]:
    """Return the variables of a file as /etc/os-release."""
    pairs = (line.partition("=") for line in (basics.read_text(path) or "").splitlines())
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs if value}


def look_at_clock(begin: float) -> dict[str, Any]:
    """Return the time (seconds since 1970), whether the system says that it is synchronised, and the seconds
    since ``begin`` (of the monotonic clock).
    """
    # Not by timedatectl: it starts a service, and a look leaves no trace.
    said = "yes" if os.path.exists("/run/systemd/timesync/synchronized") else ""
    return {"synchronised": said, "took_s": time.monotonic() - begin, "now": time.time()}
