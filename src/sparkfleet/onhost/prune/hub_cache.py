"""Removes a revision from the hub's cache; the rest stays valid for every other tool.

The order is that of huggingface_hub: links and refs first, contents last. A content that another revision
links to stays. Since huggingface_hub 1.32 a repository's blob may itself be a link into ``hub/blobs``, which
all repositories share; there a list beside each content (``.refs``) names the links to it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sparkfleet.contract import beneath


def contents(root: Path, revision: str) -> list[Path]:
    """Return the files of a revision: what its snapshot has or links to."""
    snapshot = root / "snapshots" / revision
    return [Path(folder) / name for folder, _, names in os.walk(snapshot) for name in names]


def remove_revision(root: Path, revision: str) -> None:
    """Remove a snapshot, the refs that mean it and the blobs that no other snapshot needs."""
    blobs = _blobs(root, revision)
    other_revisions = {one.name for one in (root / "snapshots").glob("*")} - {revision}
    models = root.parents[1]
    beneath.remove(root / "snapshots" / revision, models)
    for ref in (root / "refs").rglob("*"):
        if ref.is_file() and ref.read_text(encoding="utf-8", errors="replace").strip() == revision:
            beneath.remove(ref, models)
    if not other_revisions:
        for blob in (root / "blobs").glob("*"):
            _remove_blob(root, blob.name)
        beneath.remove(root, models)
        beneath.remove(root.parent / ".locks" / root.name, models)
        return
    needed = {name for other in other_revisions for name in _blobs(root, other)}
    for name in blobs - needed:
        _remove_blob(root, name)


def _blobs(root: Path, revision: str) -> set[str]:
    """Return the names of the blobs that a snapshot's links lead to."""
    return {os.path.basename(os.readlink(path)) for path in contents(root, revision) if path.is_symlink()}


def _remove_blob(root: Path, name: str) -> None:
    blob = root / "blobs" / name
    hub = root.parent
    store = Path(os.path.normpath(blob.parent / os.readlink(blob))) if blob.is_symlink() else None
    beneath.remove(blob, hub.parent)
    if store is not None and store.parent.parent == hub / "blobs":
        sweep_shared(store, hub)


def sweep_shared(store: Path, hub: Path) -> None:
    """Remove a content of the shared store that no link leads to; without its list it stays."""
    manifest = store.with_name(f"{store.name}.refs")
    if not manifest.is_file() or store.is_symlink():
        return
    lock_path = store.with_name(f"{store.name}.lock")
    with os.fdopen(beneath.open_to_append(lock_path, hub.parent), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the lock that huggingface_hub takes
        lines = manifest.read_text(encoding="utf-8", errors="replace").splitlines()
        if not any(_leads_to(hub / line, store) for line in lines if line):
            beneath.remove(store, hub.parent)
            beneath.remove(manifest, hub.parent)


def _leads_to(link: Path, store: Path) -> bool:
    return link.is_symlink() and os.path.normpath(link.parent / os.readlink(link)) == str(store)
