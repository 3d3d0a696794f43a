"""Model files in the hub's cache."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def look_at_weights(models_dir: str, wanted: list[list[str]]) -> dict[str, dict[str, Any]]:
    """Return for each ``[repo, revision]`` its snapshot's files: size of the content, name of the blob."""
    found = {}
    for repo, revision in wanted:
        root = os.path.join(models_dir, "hub", "models--" + repo.replace("/", "--"))
        snapshot = os.path.join(root, "snapshots", revision)
        files = {}
        for folder, _, names in os.walk(snapshot):
            for name in names:
                path = os.path.join(folder, name)
                link = os.readlink(path) if os.path.islink(path) else ""
                try:
                    size = os.stat(path).st_size
                except OSError:
                    size = -1
                files[os.path.relpath(path, snapshot)] = {"size": size, "blob": os.path.basename(link)}
        found["%s@%s" % (repo, revision)] = files
    return found
