"""Data files that an update may replace: schemas, failure patterns, recipes. Standard library alone.

Everything that reads such a file reads it here. The programs on a Spark have the files in their own zip file,
and call no ``use``.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable, Collection
from typing import Protocol

BUNDLED = "2026.11.30"
"""Version of the files in this package: the day of their last change."""


class UpdatedFiles(Protocol):
    """Files that come before the bundled ones, named as in the package: ``catalog/recipes/x.yaml``."""

    @property
    def version(self) -> str:
        """Return the version."""
        ...

    def names(self) -> Collection[str]:
        """Return the names of all files."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file of ``names``."""
        ...


_find: Callable[[], UpdatedFiles | None] = lambda: None  # noqa: E731


def use(find: Callable[[], UpdatedFiles | None]) -> None:
    """Read the files that ``find`` returns, called at the first use, before the bundled ones."""
    global _find  # noqa: PLW0603  (one process has one set of data files)
    _find = find
    active_update.cache_clear()


@functools.cache
def active_update() -> UpdatedFiles | None:
    """Return the files that come before the bundled ones; None: there are none."""
    return _find()


def update_version() -> str:
    """Return the version of the updated files; "" if the bundled ones are used."""
    found = active_update()
    return found.version if found else ""


def read(package: str, name: str) -> bytes:
    """Return the data file ``name`` in the folder of ``package``. ``FileNotFoundError`` if there is none."""
    found, key = active_update(), f"{package.replace('.', '/')}/{name}".removeprefix("sparkfleet/")
    if found and key in found.names():
        return found.read(key)
    content = pkgutil.get_data(package, name)
    if content is None:
        raise FileNotFoundError(f"{package} has no {name}")
    return content
