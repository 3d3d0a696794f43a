"""Python packages of an offline mirror: a directory of wheels, each with its locked content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sparkfleet.config.resolved import Wheel
from sparkfleet.contract.diagnostic import Diagnostic


def place(path: Path, wheel: Wheel) -> Path:
    """Return the path of a wheel in an offline mirror (a directory for ``pip install --find-links``)."""
    return path / "wheels" / wheel.name


def is_there(path: Path, wheel: Wheel) -> bool:
    """Tell whether an offline mirror has a wheel with the locked content."""
    file = place(path, wheel)
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == wheel.sha256


def lack(where: str, mirror: Path, wheels: Iterable[Wheel]) -> Diagnostic | None:
    """Return which wheels an offline mirror lacks; None when it has all of them as locked."""
    absent = [wheel.name for wheel in wheels if not is_there(mirror, wheel)]
    if not absent:
        return None
    return Diagnostic(
        f"{where}: {absent[0]}",
        f"the offline mirror {mirror} lacks {len(absent)} Python packages: {', '.join(absent[:3])}",
        "an offline mirror of this very lock file",
        f"where the package index can be reached: sparkfleet mirror INVENTORY {mirror}",
        code="mirror-incomplete",
    )
