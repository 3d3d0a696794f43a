"""How the process of an engine is contained, one folder a runtime: ``docker`` runs it in a container.

``runtimes/<name>/operator.py`` has ``RUNTIME``, the operator's side (``operator.OperatorRuntime``). The
driver on a Spark is ``DRIVER`` of ``runtimes/<name>/onhost/driver.py`` (``base.Runtime``, standard library
alone). Directories that are appended to ``__path__`` are searched as well, but not for drivers.
"""

from __future__ import annotations

from functools import cache

TYPE_CHECKING = False  # as typing's, without its import: programs on a Spark have this module, too
if TYPE_CHECKING:
    from sparkfleet.runtimes.operator import OperatorRuntime

DEFAULT = "docker"
"""Runtime of host files and recipes that name none."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all runtimes, sorted."""
    from pathlib import Path  # noqa: PLC0415  (nothing on a Spark needs the names)

    folders = (folder for root in __path__ for folder in Path(root).iterdir())
    return tuple(sorted(folder.name for folder in folders if (folder / "operator.py").is_file()))


@cache
def get(name: str) -> OperatorRuntime:
    """Return the operator's side of a runtime. ``KeyError`` for a name that ``names`` does not have."""
    import importlib  # noqa: PLC0415  (as above)

    if name not in names():
        raise KeyError(name)
    found: OperatorRuntime = importlib.import_module(f"{__name__}.{name}.operator").RUNTIME
    return found
