"""The record of what sparkfleet fetched to this host: ``staged.json``. Anything else is unmanaged.

An image is managed if it was not present before its pull, a model revision if nothing of it was present
before its download. A download that completed a user's own files does not make them managed.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparkfleet.contract.state import Staged, StagedItem
from sparkfleet.onhost.machine import files
from sparkfleet.runtimes import onhost

IMAGES, REVISIONS = "images", "revisions"
PATH = "staged.json"


def read(state: Path) -> Staged:
    """Return the record; an empty one, in which nothing is managed, when there is no valid one.

    Raise ContractError for one of a newer version, which stays as it is.
    """
    return files.read_or_default(Staged, state / PATH)


def note(state: Path, kind: str, key: str, size: int, *, repo: str = "", revision: str = "") -> None:
    """Record a managed item with its bytes and the time."""
    with _changing(state) as record:
        record[kind][key] = StagedItem(size, round(time.time()), repo, revision)


def forget(state: Path, kind: str, key: str) -> None:
    """Remove an item from the record."""
    with _changing(state) as record:
        record[kind].pop(key, None)


@contextmanager
def image(state: Path, reference: str) -> Iterator[None]:
    """Around a pull: record the image as managed if it was absent before and is present afterwards."""
    images = onhost.images()
    before = images.find_image(reference)
    yield
    after = images.find_image(reference)
    if before is None and after is not None:
        note(state, IMAGES, reference, after.size)


def revision(state: Path, snapshot: Path, repo: str, commit: str, size: int) -> None:
    """Before a download or copy: record the revision as managed if nothing of it is present."""
    if not snapshot.exists():
        note(state, REVISIONS, str(snapshot), size, repo=repo, revision=commit)


@contextmanager
def _changing(state: Path) -> Iterator[dict[str, dict[str, StagedItem]]]:
    with (state / "staged.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read(state)
        record = {IMAGES: dict(known.images), REVISIONS: dict(known.revisions)}
        yield record
        files.write_document(state / PATH, Staged(**record))
