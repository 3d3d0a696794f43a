"""How the process of an engine is contained, one folder a runtime: ``docker`` runs it in a container.

``runtimes/<name>/operator.py`` has ``RUNTIME``, the operator's side (``operator.OperatorRuntime``). The
driver on a Spark is ``DRIVER`` of ``runtimes/<name>/onhost/driver.py`` (``base.Runtime``, standard library
alone). Directories that are appended to ``__path__`` are searched as well, but not for drivers.

``Container`` and ``Mount`` are those of ``runtimes/docker/settings.py``: the settings of each service,
whatever its runtime. They are loaded at their first use: programs on a Spark do not need them.
"""

from __future__ import annotations

from functools import cache

TYPE_CHECKING = False  # as typing's, without its import: programs on a Spark have this module, too
if TYPE_CHECKING:
    from typing import Any

    from sparkfleet.runtimes.docker.settings import Container, Mount
    from sparkfleet.runtimes.operator import OperatorRuntime

__all__ = ["DEFAULT", "Container", "Mount", "get", "names"]

DEFAULT = "docker"
"""Runtime of host files and recipes that name none."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all runtimes, sorted."""
    return _with("operator.py")


@cache
def of_containers() -> tuple[str, ...]:
    """Return the names of the runtimes that run containers, sorted: those with images.

    A service in one of them must declare an image, and gets the GPU by the NVIDIA container toolkit.
    """
    return _with("onhost/images.py")


def _with(file: str) -> tuple[str, ...]:
    from pathlib import Path  # noqa: PLC0415  (nothing on a Spark needs the names)

    folders = (folder for root in __path__ for folder in Path(root).iterdir())
    return tuple(sorted(folder.name for folder in folders if (folder / file).is_file()))


@cache
def get(name: str) -> OperatorRuntime:
    """Return the operator's side of a runtime. ``KeyError`` for a name that ``names`` does not have."""
    import importlib  # noqa: PLC0415  (as above)

    if name not in names():
        raise KeyError(name)
    found: OperatorRuntime = importlib.import_module(f"{__name__}.{name}.operator").RUNTIME
    return found


def __getattr__(name: str) -> Any:
    if name not in {"Container", "Mount"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  (as above)

    return getattr(importlib.import_module(f"{__name__}.{DEFAULT}.settings"), name)
