"""Engines that serve models, one folder each: everything about an engine is in its folder.

``engines/<name>/engine.py`` has ``ENGINE``, the operator's side (``base.Engine``). ``ENGINE`` in
``engines/<name>/onhost.py`` is for programs on a Spark (``host.HostEngine``, standard library alone). An
engine's modules are imported when they are needed. Directories that are appended to ``__path__`` are searched
as well.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from sparkfleet.desired_state import Host, Service
    from sparkfleet.engines.base import Engine
    from sparkfleet.engines.host import HostEngine

DEFAULT = "vllm"
"""Engine of host files, recipes and lock files that name none."""
MODELS_DIR, CACHE_DIR = "~/vllm", "~/vllm-compile-cache"
"""Default directories of every engine: where owners of Sparks have their models already."""

Executor = Literal["ray", "mp"]
"""How the ranks of a cluster can be started; ``HostEngine.cluster_starts`` has those of one engine."""
EXECUTOR: Executor = "ray"
EXECUTORS = "ray: head and workers of a Ray cluster; mp: the engine's own multi-node mode."


@cache
def names() -> tuple[str, ...]:
    """Return the names of all engines, sorted."""
    return _folders("engine.py")


@cache
def host_names() -> tuple[str, ...]:
    """Return the names of all engines with an on-host part, sorted; on a Spark as well."""
    return _folders("onhost.py")


def folders() -> list[Traversable]:
    """Return the folders of all engines, by name."""
    roots: list[Traversable] = [resources.files(__name__), *map(Path, __path__[1:])]
    found = [folder for root in roots for folder in root.iterdir() if folder.is_dir()]
    return sorted(found, key=lambda folder: folder.name)


def _folders(module: str) -> tuple[str, ...]:
    return tuple(folder.name for folder in folders() if folder.joinpath(module).is_file())


@cache
def get(name: str) -> Engine:
    """Return the operator's side of an engine. ``KeyError`` for a name that ``names`` does not have."""
    return _load(name, "engine")  # type: ignore[return-value]


@cache
def on_host(name: str) -> HostEngine:
    """Return the part of an engine that runs on a Spark. ``KeyError`` for an unknown engine."""
    return _load(name, "onhost")  # type: ignore[return-value]


def memory_of_others(service: Service, host: Host, total_gib: float) -> float:
    """Return the memory that the host's other services use (GiB)."""
    other_services = (one for one in host.services if one.name != service.name)
    return sum(get(one.engine).memory_gib(one, total_gib) for one in other_services)


def _load(name: str, part: str) -> object:
    module = f"{__name__}.{name}.{part}"
    try:
        return importlib.import_module(module).ENGINE
    except ModuleNotFoundError as error:
        if error.name in {module, module.rpartition(".")[0]}:
            raise KeyError(name) from None
        raise
