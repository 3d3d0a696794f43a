"""Deletes what a fleet no longer needs, item by item, each after another check of the host.

A person has seen the list of items. If a service, its record or a container has changed since, nothing more
is deleted. Items that a process has open remain, and paths that sparkfleet does not create are refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.stage import NOT_REMOVED, STAGED, PruneItem, PruneRequest, StageResult
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record
from sparkfleet.onhost.machine import files, open_files
from sparkfleet.onhost.prune import hub_cache
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError
from sparkfleet.runtimes.errors import MISSING

_CACHE = re.compile(r"[0-9a-f]{12}|unpinned")
_SNAPSHOT = re.compile(r"hub/models--[^/]+/snapshots/[^/]+")


AGAIN = "end what uses it, or remove it by hand; then prune again: the list shows what is left"


class SkippedError(Exception):
    """An item remains; ``str()`` is the reason."""


def prune(request: PruneRequest, state: Path, journal: Journal) -> StageResult:
    """Delete the items; return their number, the bytes freed, and the items that remain.

    Raise StageError when the host has changed since the items were listed, ContractError when a newer
    version wrote the record of fetched files.
    """
    fetch_record.read(state)
    removed = 0
    remaining: list[Diagnostic] = []
    disks = {str(state), request.models_dir, *_image_directories()}
    before = {path: _free(Path(path)) for path in disks}
    for item in request.items:
        try:
            with store.lock(state, wait=False):
                _refuse_stale(request, state)
                journal.log("phase", f"{item.kind} {item.name}", phase="remove")
                _REMOVALS[item.kind](item, request, state)
        except store.BusyError as error:
            message = f"{error}; {removed} items removed, the rest remains"
            raise StageError(
                "prune", message, "wait for its end, then prune again", code="rollout-in-progress"
            ) from None
        except (SkippedError, RuntimeRefusedError, OSError) as error:
            remaining.append(Diagnostic(item.name, str(error), hint=AGAIN, code=NOT_REMOVED))
            journal.log("note", f"{item.kind} {item.name} remains: {error}")
        else:
            removed += 1
            journal.log("note", f"{item.kind} {item.name} is removed")
    return StageResult(
        STAGED, text=f"{removed} removed", removed=removed, freed=_freed(before), remaining=tuple(remaining)
    )


def _free(path: Path) -> tuple[int, int]:
    while not path.exists():
        path = path.parent
    return path.stat().st_dev, shutil.disk_usage(path).free


def _freed(before: dict[str, tuple[int, int]]) -> int:
    """Return the bytes freed, counting each file system once."""
    by_disk = {device: (path, free) for path, (device, free) in before.items()}
    return max(0, sum(_free(Path(path))[1] - free for path, free in by_disk.values()))


def _refuse_stale(request: PruneRequest, state: Path) -> None:
    paths = {path.parent.name: path for path in (state / "services").glob("*/current.json")}
    records = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    if store.unfinished(state):
        message, hint = "a rollout is in progress; the rest remains", "wait for its end, then prune again"
        raise StageError("prune", message, hint, code="rollout-in-progress")
    if records != request.records or _image_users() != request.containers:
        raise StageError(
            "prune",
            "services or containers have changed since the list was shown; the rest remains",
            "sparkfleet prune again, for a new list",
            code="host-changed-since-plan",
        )


def _image_users() -> dict[str, str]:
    """Return id and image of each container; {} on a host without a runtime for containers."""
    try:
        return onhost.images().users()
    except RuntimeUnavailableError as error:
        if error.state == MISSING:
            return {}
        raise


def _image_directories() -> tuple[str, ...]:
    try:
        return (str(onhost.images().data_directory()),)
    except RuntimeUnavailableError as error:
        if error.state == MISSING:
            return ()
        raise


def _remove_image(item: PruneItem, _: PruneRequest, state: Path) -> None:
    images = onhost.images()
    for reference in item.refs:
        images.remove_image(reference)  # refused while a container needs it
    for reference in fetch_record.read(state).images:
        if not images.find_image(reference):
            fetch_record.forget(state, fetch_record.IMAGES, reference)


def _remove_model(item: PruneItem, request: PruneRequest, state: Path) -> None:
    path = Path(item.key)
    root = path.parents[1]
    valid = _SNAPSHOT.fullmatch(os.path.relpath(path, request.models_dir)) and ".." not in path.parts
    if not valid or root.is_symlink():
        raise SkippedError(f"{path} is not a revision in the hub's cache of {request.models_dir}")
    _refuse_open(hub_cache.contents(root, path.name))
    hub_cache.remove_revision(root, path.name)
    fetch_record.forget(state, fetch_record.REVISIONS, str(path))


def _remove_cache(item: PruneItem, request: PruneRequest, _: Path) -> None:
    path = Path(item.key)
    if str(path.parent) != request.cache_dir or not _CACHE.fullmatch(path.name) or path.is_symlink():
        raise SkippedError(f"{path} is not a compile cache of sparkfleet")
    _refuse_open([Path(folder) / name for folder, _, names in os.walk(path) for name in names])
    files.remove(path)


def _remove_generation(item: PruneItem, _: PruneRequest, state: Path) -> None:
    path = _inside(Path(item.key), state / "services")
    files.remove(path)
    service = path.parents[1]
    if not (service / "current.json").exists() and not list((service / "generations").glob("*.json")):
        files.remove(service)


def _remove_evidence(item: PruneItem, _: PruneRequest, state: Path) -> None:
    directory = Path(item.key).parent  # moved since the list was shown, if an earlier version wrote it
    if directory.parents[1] != state:
        raise SkippedError(f"{item.key} is not in {state}")
    evidence = store.rollout_directory(state, directory.name) / "evidence"
    files.remove(_inside(evidence, state))


def _inside(path: Path, folder: Path) -> Path:
    if ".." in path.parts or not path.is_relative_to(folder) or path.is_symlink():
        raise SkippedError(f"{path} is not in {folder}")
    return path


def _refuse_open(paths: list[Path]) -> None:
    held = open_files.first_open(paths, open_files.open_identities())
    if held is not None:
        raise SkippedError(f"{held.name} is open in a process")


_REMOVALS: dict[str, Callable[[PruneItem, PruneRequest, Path], None]] = {
    "image": _remove_image,
    "model": _remove_model,
    "compile cache": _remove_cache,
    "generation": _remove_generation,
    "evidence": _remove_evidence,
}
