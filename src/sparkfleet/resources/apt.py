"""apt on a Spark. Updates and desktops use it, too, so each change waits for them."""

from __future__ import annotations

import os
import time

from sparkfleet.resources.base import Completed, Host, ResourceError, must

APT = (
    *("env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "apt-get", "--yes"),
    *("--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"),
)
TIMEOUT_S = 1200
"""For a download and its installation over a slow line."""
WAIT_S, PAUSE_S = 300, 2
"""Seconds that a change waits for another process: a security update takes minutes."""
LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)


def change(host: Host, *arguments: str) -> None:
    """Run apt-get when no other process uses it. Raise ResourceError if it fails or stays in use."""
    wait(host)
    must(host, (*APT, *arguments), TIMEOUT_S)


def simulate(host: Host, *arguments: str) -> Completed:
    """Return what apt-get would do: that needs no lock."""
    return host.run((*APT, "--simulate", *arguments), TIMEOUT_S)


def wait(host: Host) -> None:
    """Wait until no process holds a lock of dpkg or apt. Raise ResourceError, with its name, after WAIT_S."""
    end = time.monotonic() + WAIT_S
    while (owner := lock_owner(host)) is not None:
        if time.monotonic() >= end:
            pid, command = owner
            raise ResourceError(
                f"dpkg is in use by process {pid} ({command})",
                f"the lock of dpkg within {WAIT_S} s",
                f"wait until it ends (ps -fp {pid}), then run again",
                code="dpkg-locked",
            )
        time.sleep(PAUSE_S)


def lock_owner(host: Host) -> tuple[int, str] | None:
    """Return process and command that hold a lock of dpkg or apt; None: it is free, or cannot be read."""
    paths = [host.path(path) for path in LOCKS]
    inodes = {str(os.stat(path).st_ino) for path in paths if os.path.exists(path)}
    for line in (host.read("/proc/locks") or "").splitlines():
        fields = line.split()
        if len(fields) < 6 or fields[1] == "->" or fields[5].rpartition(":")[2] not in inodes:  # noqa: PLR2004
            continue
        pid = fields[4]
        if pid.isdecimal() and _has_open(host, pid, paths):  # another file system may have the same inode
            argv = (host.read(f"/proc/{pid}/cmdline") or "").split("\0")
            return int(pid), " ".join(argv).strip()[:200] or "unknown"
    return None


def _has_open(host: Host, pid: str, paths: list[str]) -> bool:
    folder = host.path(f"/proc/{pid}/fd")
    try:
        return any(os.readlink(os.path.join(folder, name)) in paths for name in os.listdir(folder))
    except OSError:
        return False
