"""What sparkfleet itself brought to this Spark: ``staged.json``. What is not in it is somebody else's.

An image is ours when it was not here before we pulled it, a model revision when there was nothing of it
before we fetched it: a download that only completed a user's own files makes them no more ours.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparkfleet.onhost.machine import files
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine

KINDS = ("images", "revisions")


def read(state: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the record: ``images`` by reference, ``revisions`` by the path of their snapshot."""
    data = files.read_json(state / "staged.json") or {}
    return {kind: data.get(kind) or {} for kind in KINDS}


def note(state: Path, kind: str, key: str, size: int, **more: str) -> None:
    """Write down that something is ours: bytes, and when it came."""
    with _changing(state) as record:
        record[kind][key] = {"bytes": size, "at": round(time.time()), **more}


def forget(state: Path, kind: str, key: str) -> None:
    """Take something out of the record: it is not here any more."""
    with _changing(state) as record:
        record[kind].pop(key, None)


@contextmanager
def image(state: Path, reference: str) -> Iterator[None]:
    """Around a pull: the image is ours if it was not here before and is here afterwards."""
    engine = DockerEngine()
    was_here = engine.has_image(reference)
    yield
    if not was_here and engine.has_image(reference):
        note(state, "images", reference, engine.image_size(reference))


def revision(state: Path, snapshot: Path, repo: str, commit: str, size: int) -> None:
    """Before a download or copy: the revision is ours if nothing of it is here yet."""
    if not snapshot.exists():
        note(state, "revisions", str(snapshot), size, repo=repo, revision=commit)


@contextmanager
def _changing(state: Path) -> Iterator[dict[str, dict[str, dict[str, Any]]]]:
    with (state / "staged.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = read(state)
        yield record
        files.write_json(state / "staged.json", {"schema": 1, **record})
