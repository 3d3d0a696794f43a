"""Python packages of an offline mirror: a directory of wheels that match their locked hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state.derived_packages import Wheel


def wheel_path(path: Path, wheel: Wheel) -> Path:
    """Return the path of a wheel in an offline mirror (a directory for ``pip install --find-links``)."""
    return path / "wheels" / wheel.name


def has(path: Path, wheel: Wheel) -> bool:
    """Return whether an offline mirror has a wheel that matches its locked hash."""
    file = wheel_path(path, wheel)
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == wheel.sha256


def lack(where: str, mirror: Path, wheels: Iterable[Wheel]) -> Diagnostic | None:
    """Return which wheels an offline mirror lacks; None when it has all of them."""
    absent = [wheel.name for wheel in wheels if not has(mirror, wheel)]
    if not absent:
        return None
    return Diagnostic(
        f"{where}: {absent[0]}",
        f"the offline mirror {mirror} lacks {len(absent)} Python packages: {', '.join(absent[:3])}",
        "an offline mirror of the current lock file",
        f"run where the package index can be reached: sparkfleet mirror INVENTORY {mirror}",
        code="mirror-incomplete",
    )
