"""The hub's cache: where a repository is in it, which files are not whole, how broken ones are removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.fetch import verified


def repository(models_dir: str, repo: str) -> Path:
    """Return the hub cache's directory of a model repository."""
    return Path(models_dir) / "hub" / f"models--{repo.replace('/', '--')}"


def wrong_files(
    root: Path, revision: str, wanted: list[dict[str, Any]], record: verified.Record | None = None
) -> list[dict[str, Any]]:
    """Return the wanted files that are not whole in the snapshot, by size, blob and known hash."""
    wrong = []
    for file in wanted:
        path = root / "snapshots" / revision / file["path"]
        blob = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
        try:
            whole = path.stat().st_size == file["size"] and (
                not blob or not file["blob"] or blob == file["blob"]
            )
            whole = (
                whole and verified.known(record or {}, verified.FileToVerify(path, file["blob"])) is not False
            )
        except OSError:
            whole = False
        if not whole:
            wrong.append(file)
    return wrong


def clear(
    root: Path, revision: str, wrong: list[dict[str, Any]], record: verified.Record | None = None
) -> None:
    """Remove what is broken, link and content: the download takes any blob that exists for a whole one."""
    for file in wrong:
        path = root / "snapshots" / revision / file["path"]
        changed = verified.known(record or {}, verified.FileToVerify(path, file["blob"])) is False
        contents = _contents(root, path)
        path.unlink(missing_ok=True)
        if contents and (changed or contents[-1].stat().st_size != file["size"]):
            for content in contents:
                content.unlink()


def _contents(root: Path, link: Path) -> list[Path]:
    """Return what a snapshot's link leads to within the cache; nothing for somebody else's file.

    That is the blob, and since huggingface_hub 1.32 perhaps a file of the store that all repositories share,
    to which the blob is a link.
    """
    found: list[Path] = []
    here = link
    while here.is_symlink():
        here = Path(os.path.normpath(here.parent / os.readlink(here)))
        if not any(here.is_relative_to(inside) for inside in (root, root.parent / "blobs")):
            return []
        found.append(here)
    return found if here.is_file() else []
