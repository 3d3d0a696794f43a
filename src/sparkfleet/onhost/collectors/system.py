"""The machine and its operating system."""

from __future__ import annotations

import os
import re
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


SOURCES = ("dgx.sources", "nvidia.sources")
BROKEN_SOURCE = "repo.download.nvidia.com/baseos/8/ubuntu/noble"
"""An address of September 2026 that answers 404 (timothystewart6/techno-tim.github.io#371)."""


def collect_nvidia(etc: str = "/etc") -> dict[str, Any]:
    """Return the files with NVIDIA's package sources, those with a wrong address, and the runtime's mode."""
    paths = [os.path.join(etc, "apt/sources.list.d", name) for name in SOURCES]
    texts = {path: text for path in paths if (text := basics.read_text(path)) is not None}
    config = basics.read_text(os.path.join(etc, "nvidia-container-runtime/config.toml")) or ""
    mode = re.search(r"^mode *= *[\"'](\w*)", config, re.MULTILINE)
    return {
        "sources": list(texts),
        "broken_sources": [path for path, text in texts.items() if BROKEN_SOURCE in text],
        "runtime_mode": mode[1] if mode else "",
    }


def collect_blocks(path: str = "/proc/buddyinfo") -> dict[str, Any]:
    """Return the size of a page (KiB), and how many blocks of each order are free in all zones."""
    with open(path, encoding="utf-8") as file:
        zones = [[int(word) for word in line.split()[4:]] for line in file]
    return {
        "page_kib": os.sysconf("SC_PAGE_SIZE") // 1024,
        "free": [sum(one) for one in zip(*zones, strict=False)],
    }


def collect_clock(begin: float) -> dict[str, Any]:
    """Return the Unix time, whether the clock is synchronised, and the monotonic seconds since ``begin``."""
    # Not by timedatectl: it starts a service, and a probe leaves no trace.
    synchronised = "yes" if os.path.exists("/run/systemd/timesync/synchronized") else ""
    return {"synchronised": synchronised, "took_s": time.monotonic() - begin, "now": time.time()}
