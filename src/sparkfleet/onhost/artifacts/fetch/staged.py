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

from sparkfleet.contract.state import Staged, StagedItem
from sparkfleet.onhost.machine import files
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine

IMAGES, REVISIONS = "images", "revisions"
PATH = "staged.json"


def read(state: Path) -> Staged:
    """Return the record; an empty one when there is none that can be read: nothing is ours then."""
    return files.read_or_default(Staged, state / PATH)


def note(state: Path, kind: str, key: str, size: int, *, repo: str = "", revision: str = "") -> None:
    """Write down that something is ours: bytes, and when it came."""
    with _changing(state) as record:
        record[kind][key] = StagedItem(size, round(time.time()), repo, revision)


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
def _changing(state: Path) -> Iterator[dict[str, dict[str, StagedItem]]]:
    with (state / "staged.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read(state)
        record = {IMAGES: dict(known.images), REVISIONS: dict(known.revisions)}
        yield record
        files.write_json(state / PATH, Staged(**record).to_json())
