"""What apt would do on a Spark, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Packages:
    """What apt would do to install some packages, by the lists that the Spark has."""

    wanted: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Wanted, and in none of its sources."""
    install: tuple[tuple[str, str, str], ...] = ()
    """Name, version that is there ("" = none), version that comes: the wanted ones and what they need."""
    remove: tuple[str, ...] = ()
    error: str = ""


def read_packages(seen: Mapping[str, Any]) -> Packages:
    """Return the decoded answer of the look."""
    return Packages(
        wanted=tuple(seen.get("wanted", ())),
        missing=tuple(seen.get("missing", ())),
        install=tuple((name, old, new) for name, old, new in seen.get("install", ())),
        remove=tuple(seen.get("remove", ())),
        error=seen.get("error", ""),
    )
