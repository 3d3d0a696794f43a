"""What an engine mounts from the Spark, before a start: its compile cache is created, a disk is waited for.

Docker refuses to start a container whose mounted directory is missing, and takes an empty directory where a
disk is not mounted yet. Neither is a failure of the engine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sparkfleet.contract import beneath
from sparkfleet.contract.generation import CACHE_IN_CONTAINER
from sparkfleet.onhost.machine.system import System
from sparkfleet.runtimes.base import Workload

REMEDY = "mount its disk, or create it"
POLL_S, REPORT_S = 2.0, 60.0
FSTAB_FIELDS = 4
"""Device, mount point, type, options."""


def obstacle(system: System, workload: Workload) -> str:
    """Create the compile cache if it is missing; return the first mount that is not ready, or ""."""
    disks = _unmounted_disks(system)
    for mount in workload.mounts:
        source = Path(mount.source)
        real = Path(os.path.realpath(source))
        disk = next((path for path in disks if real.is_relative_to(path)), None)
        if disk and _is_empty(real):
            return f"{source} is not available: the disk of {disk} is declared, but not mounted"
        if mount.target == CACHE_IN_CONTAINER and not source.exists():
            problem = _create(real)
            if problem:
                return f"{source} cannot be created: {problem}"
        if not source.exists():
            link = f", a link to {real}," if real != source else ""
            return f"{source}{link} does not exist"
    return ""


def clear_caches(sources: Sequence[str], paths: Sequence[str]) -> None:
    """Remove caches of an engine, which can write to its mounts: ``sources`` are their directories."""
    for path in map(Path, paths):
        roots = [Path(source) for source in sources if path.is_relative_to(source)]
        beneath.remove_cache(path, max(roots, key=lambda one: len(one.parts), default=path.parent))


def wait(
    system: System,
    workload: Workload,
    limit_s: float,
    report: Callable[[str], None],
    give_up: Callable[[], bool] = lambda: False,
) -> str:
    """Wait for all mounts, ``limit_s`` at most; return "" or the one that is not ready."""
    started = system.monotonic()
    reported = started - REPORT_S
    while True:
        reason = obstacle(system, workload)
        waited = system.monotonic() - started
        if not reason or waited >= limit_s or give_up():
            return reason
        if system.monotonic() - reported >= REPORT_S:
            reported = system.monotonic()
            report(f"{reason}; waiting for {waited:.0f} of {limit_s:.0f} s")
        system.sleep(POLL_S)


def _unmounted_disks(system: System) -> tuple[Path, ...]:
    """Return mount points without their disk, of /etc/fstab (without ``noauto``) and of mount units."""
    declared = set()
    for fields in map(str.split, _lines(system.paths.fstab)):
        is_entry = len(fields) >= FSTAB_FIELDS and not fields[0].startswith("#")
        if is_entry and "noauto" not in fields[3].split(","):
            declared.add(_unescaped(fields[1]))
    for unit in system.paths.units.glob("*.mount"):
        declared |= {line.partition("=")[2].strip() for line in _lines(unit) if line.startswith("Where=")}
    mounted = {_unescaped(line.split()[4]) for line in _lines(system.paths.mountinfo)}
    return tuple(Path(path) for path in sorted(declared - mounted) if path.startswith("/"))


def _unescaped(path: str) -> str:
    """Return a path of fstab or mountinfo, which have octal digits for a blank."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _is_empty(path: Path) -> bool:
    try:
        return next(path.iterdir(), None) is None
    except NotADirectoryError:
        return False
    except OSError:
        return True


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []


def _create(path: Path) -> str:
    """Create a directory with the owner of the nearest parent that exists; return "" or why not."""
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    try:
        owner = missing[-1].parent.stat()
        for directory in reversed(missing):
            directory.mkdir(mode=0o755)
            os.chown(directory, owner.st_uid, owner.st_gid)
    except OSError as error:
        return error.strerror or str(error)
    return ""
