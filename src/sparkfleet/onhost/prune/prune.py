"""Removing what a fleet does not need any more, one thing at a time, each after another look.

What is removed was shown to somebody before. If since then a service, its books or a container changed,
nothing is removed any more; what somebody holds open is left; what is not of the shape of ours is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.fetch import staged
from sparkfleet.onhost.artifacts.fetch.pull import StageError
from sparkfleet.onhost.machine import files, open_files
from sparkfleet.onhost.prune import hub_cache
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import RuntimeRefusedError
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine

_CACHE = re.compile(r"[0-9a-f]{12}|unpinned")
_SNAPSHOT = re.compile(r"hub/models--[^/]+/snapshots/[^/]+")


class SkippedError(Exception):
    """One thing stays; ``str()`` says why."""


def carry_out(request: dict[str, Any], state: Path, journal: Journal) -> dict[str, Any]:
    """Remove the items; return how many went, the bytes that came free, and what stayed and why.

    Raise StageError when the Spark is not what it was when the items were shown.
    """
    removed, stayed = 0, []
    disks = {str(state), request["models_dir"], str(DockerEngine().root())}
    before = {path: _free(Path(path)) for path in disks}
    for item in request["items"]:
        try:
            with store.lock(state, wait=False):
                _refuse_stale(request, state)
                journal.log("phase", f"{item['kind']} {item['name']}", phase="remove")
                _REMOVALS[item["kind"]](item, request, state)
        except store.BusyError as error:
            raise StageError(
                f"{error}: {removed} removed, the rest stays", "wait for its end, then prune"
            ) from None
        except (SkippedError, RuntimeRefusedError, OSError) as error:
            stayed.append({"name": item["name"], "why": str(error)})
            journal.log("note", f"{item['kind']} {item['name']} stays: {error}")
        else:
            removed += 1
            journal.log("note", f"{item['kind']} {item['name']} is removed")
    freed = _freed(before)
    return {
        "outcome": "staged",
        "text": f"{removed} removed",
        "removed": removed,
        "freed": freed,
        "stayed": stayed,
    }


def _free(path: Path) -> tuple[int, int]:
    while not path.exists():
        path = path.parent
    return path.stat().st_dev, shutil.disk_usage(path).free


def _freed(before: dict[str, tuple[int, int]]) -> int:
    """Return the bytes that came free, each file system once."""
    by_disk = {device: (path, free) for path, (device, free) in before.items()}
    return max(0, sum(_free(Path(path))[1] - free for path, free in by_disk.values()))


def _refuse_stale(request: dict[str, Any], state: Path) -> None:
    books = {path.parent.name: path for path in (state / "services").glob("*/current.json")}
    now = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in books.items()}
    if store.unfinished(state):
        raise StageError("a change of a service goes on; the rest stays", "wait for its end, then prune")
    if now != request["books"] or DockerEngine().containers() != request["containers"]:
        raise StageError(
            "services or containers changed since the list was shown; the rest stays",
            "sparkfleet prune again: the new list shows what nothing needs now",
        )


def _remove_image(item: dict[str, Any], _: dict[str, Any], state: Path) -> None:
    engine = DockerEngine()
    for reference in item["refs"]:
        engine.remove_image(reference)  # never by force: dockerd itself refuses while a container needs it
    for reference in staged.read(state).images:
        if not engine.has_image(reference):
            staged.forget(state, "images", reference)


def _remove_model(item: dict[str, Any], request: dict[str, Any], state: Path) -> None:
    path = Path(item["key"])
    root = path.parents[1]
    shape = _SNAPSHOT.fullmatch(os.path.relpath(path, request["models_dir"])) and ".." not in path.parts
    if not shape or root.is_symlink():
        raise SkippedError(f"{path} is no revision in the hub's cache of {request['models_dir']}")
    _refuse_held(hub_cache.contents(root, path.name))
    hub_cache.remove_revision(root, path.name)
    staged.forget(state, "revisions", str(path))


def _remove_cache(item: dict[str, Any], request: dict[str, Any], _: Path) -> None:
    path = Path(item["key"])
    if str(path.parent) != request["cache_dir"] or not _CACHE.fullmatch(path.name) or path.is_symlink():
        raise SkippedError(f"{path} is no compile cache of ours")
    _refuse_held([Path(folder) / name for folder, _, names in os.walk(path) for name in names])
    files.remove(path)


def _remove_generation(item: dict[str, Any], _: dict[str, Any], state: Path) -> None:
    path = _inside(Path(item["key"]), state / "services")
    files.remove(path)
    service = path.parents[1]
    if not (service / "current.json").exists() and not list((service / "generations").glob("*.json")):
        files.remove(service)


def _remove_evidence(item: dict[str, Any], _: dict[str, Any], state: Path) -> None:
    files.remove(_inside(Path(item["key"]), state / "swaps"))


def _inside(path: Path, folder: Path) -> Path:
    if ".." in path.parts or not path.is_relative_to(folder) or path.is_symlink():
        raise SkippedError(f"{path} is not in {folder}")
    return path


def _refuse_held(paths: list[Path]) -> None:
    held = open_files.any_of(paths, open_files.held())
    if held is not None:
        raise SkippedError(f"{held.name} is open in a process")


_REMOVALS: dict[str, Callable[[dict[str, Any], dict[str, Any], Path], None]] = {
    "image": _remove_image,
    "model": _remove_model,
    "compile cache": _remove_cache,
    "generation": _remove_generation,
    "evidence": _remove_evidence,
}
