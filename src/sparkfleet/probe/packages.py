"""What apt would do on a Spark, typed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Packages:
    """What apt would do to install some packages, by its present lists."""

    requested: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Requested packages that are in none of its sources."""
    install: tuple[tuple[str, str, str], ...] = ()
    """Name, installed version ("" = none), new version: requested packages and their dependencies."""
    remove: tuple[str, ...] = ()
    error: str = ""
