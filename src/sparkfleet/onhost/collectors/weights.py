"""Model files in the hub's cache."""

from __future__ import annotations

import json
import os

from sparkfleet.onhost.collectors import basics

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def look_at_weights(models_dir: str, wanted: list[list[str]]) -> dict[str, dict[str, Any]]:
    """Return for each ``[repo, revision]`` its snapshot's files: size of the content, name of the blob.

    A file that was hashed in its present state has the name that it was hashed for, and whether it was that.
    """
    found = {}
    record = hashed()
    for repo, revision in wanted:
        root = os.path.join(models_dir, "hub", "models--" + repo.replace("/", "--"))
        snapshot = os.path.join(root, "snapshots", revision)
        files = {}
        for folder, _, names in os.walk(snapshot):
            for name in names:
                path = os.path.join(folder, name)
                link = os.readlink(path) if os.path.islink(path) else ""
                seen = {"size": -1, "blob": os.path.basename(link)}
                try:
                    info = os.stat(path)
                    seen["size"] = info.st_size
                    entry = record.get(os.path.realpath(path)) if record else None
                    if entry and state_of(entry) == (info.st_size, info.st_mtime_ns, info.st_ino):
                        seen["hashed"], seen["ok"] = entry["blob"], entry["ok"]
                except OSError:
                    pass
                files[os.path.relpath(path, snapshot)] = seen
        found["%s@%s" % (repo, revision)] = files
    return found


LONGEST = 64 << 20
"""Bytes of the record of hashes that are read, at most."""


def hashed() -> dict[str, Any]:
    """Return what is known of files that were hashed: by their real paths."""
    path = os.path.join(basics.STATE_DIR, "verified.json")
    try:
        found = json.loads(basics.read_text(path, LONGEST) or "{}")["files"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def state_of(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Return the state in which a file was hashed."""
    return entry.get("size"), entry.get("mtime_ns"), entry.get("inode")
