"""Python packages of a bundle: a directory of wheels, each with its locked content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sparkfleet.config.resolved import Wheel
from sparkfleet.contract.diagnostic import Diagnostic


def place(path: Path, wheel: Wheel) -> Path:
    """Return where a bundle has a wheel: ``pip install --no-index --find-links`` takes from there."""
    return path / "wheels" / wheel.name


def is_there(path: Path, wheel: Wheel) -> bool:
    """Tell whether a bundle has a wheel with the locked content."""
    file = place(path, wheel)
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == wheel.sha256


def lack(where: str, bundle: Path, wheels: Iterable[Wheel]) -> Diagnostic | None:
    """Return which wheels a bundle lacks; None when it has all of them as locked."""
    absent = [wheel.name for wheel in wheels if not is_there(bundle, wheel)]
    if not absent:
        return None
    return Diagnostic(
        f"{where}: {absent[0]}",
        f"the bundle {bundle} lacks {len(absent)} Python packages, or has others: {', '.join(absent[:3])}",
        "a bundle of this very lock file",
        f"where the package index can be reached: sparkfleet bundle INVENTORY {bundle}",
    )
