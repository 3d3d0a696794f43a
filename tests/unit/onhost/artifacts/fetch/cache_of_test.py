"""A hub cache as the hub's own client would leave it."""

from __future__ import annotations

import os
from pathlib import Path

from sparkfleet.contract.stage import ModelFile

REVISION = "a" * 40


def put(root: Path, file: ModelFile, content: str) -> Path:
    """Put a file into a repository: its blob, and the link to it in the snapshot, which is returned."""
    blob, link = root / "blobs" / file.blob, root / "snapshots" / REVISION / file.path
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_text(content)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return Path(link)
