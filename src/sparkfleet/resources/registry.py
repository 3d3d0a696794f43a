"""Finds the kinds of host state: every module below ``kinds/`` is one."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from sparkfleet.resources import kinds as package
from sparkfleet.resources.base import ResourceKind


@cache
def names() -> tuple[str, ...]:
    """Return the names of all kinds."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


@cache
def kinds() -> dict[str, ResourceKind]:
    """Return all kinds by name, in the order in which they are applied."""
    found: list[ResourceKind] = [import_module(f"{package.__name__}.{name}").KIND for name in names()]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: (kind.order, kind.name))}


def kind(name: str) -> ResourceKind:
    """Return a kind. Raise ValueError for one that is not known."""
    if name not in kinds():
        raise ValueError(f"unknown kind of resource {name!r}")
    return kinds()[name]


def source(name: str) -> str:
    """Return the text of a kind's module."""
    module = import_module(f"{package.__name__}.{name}")
    text: str = module.__spec__.loader.get_source(module.__name__)  # type: ignore[union-attr]
    return text
