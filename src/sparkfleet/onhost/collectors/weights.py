"""Model files in the hub's cache."""

from __future__ import annotations

import os

from sparkfleet.onhost.collectors import state

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def collect_weights(models_dir: str, requested: list[list[str]]) -> dict[str, Any]:
    """Return for each ``[repo, revision]`` its snapshot's files: size of the content, name of the blob.

    A file that was hashed in its present state also has the name that was expected, and whether it matched.
    ``record``: version or error of the record of these hashes.
    """
    found = {}
    hashes, record = hashed() if requested else ({}, None)
    for repo, revision in requested:
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
                    entry = hashes.get(os.path.realpath(path)) if hashes else None
                    if entry and entry[:3] == (info.st_size, info.st_mtime_ns, info.st_ino):
                        seen["hashed"], seen["ok"] = entry[3:]
                except OSError:
                    pass
                files[os.path.relpath(path, snapshot)] = seen
        found["%s@%s" % (repo, revision)] = files
    return {"models": found, "record": record}


def hashed() -> tuple[dict[str, tuple[Any, ...]], Any]:
    """Return hashed files by real path: size, mtime, inode, expected name, match; version or error."""
    data = state.document("verified.json")
    if data is None or (isinstance(data, dict) and "error" in data):
        return {}, data
    try:
        keys = ("size", "mtime_ns", "inode", "blob", "ok")
        files = {path: tuple(entry[key] for key in keys) for path, entry in data["files"].items()}
        return files, {"version": data.get("version", 1)}
    except (AttributeError, KeyError, TypeError) as error:
        return {}, {"error": "is no record of hashed files: %s: %s" % (type(error).__name__, error)}
