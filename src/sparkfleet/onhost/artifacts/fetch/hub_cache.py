"""The hub's cache: paths of repositories, incomplete files, removal of broken files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sparkfleet.contract import beneath
from sparkfleet.contract.stage import ModelFile
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import hash_record


def repository(models_dir: str, repo: str) -> Path:
    """Return the hub cache's directory of a model repository."""
    return Path(models_dir) / "hub" / f"models--{repo.replace('/', '--')}"


def wrong_files(
    root: Path, revision: str, files: Iterable[ModelFile], record: hash_record.Record | None = None
) -> list[ModelFile]:
    """Return the files that are missing in the snapshot, or wrong by size, blob or known hash."""
    return [file for file in files if not _is_right(root / "snapshots" / revision / file.path, file, record)]


def _is_right(path: Path, file: ModelFile, record: hash_record.Record | None) -> bool:
    blob = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    try:
        if path.stat().st_size != file.size or (blob and file.blob and blob != file.blob):
            return False
    except OSError:
        return False
    return hash_record.recorded_match(record or {}, hash_record.FileToVerify(path, file.blob)) is not False


def clear(
    root: Path, revision: str, wrong: Iterable[ModelFile], record: hash_record.Record | None = None
) -> None:
    """Remove broken files, link and content: a download treats any existing blob as complete."""
    models = root.parents[1]
    for file in wrong:
        path = root / "snapshots" / revision / file.path
        changed = hash_record.recorded_match(record or {}, hash_record.FileToVerify(path, file.blob)) is False
        contents = _contents(root, path)
        removed = [path]
        if contents and (changed or contents[-1].stat().st_size != file.size):
            removed += contents
        for one in removed:
            _remove(one, models)


def _remove(path: Path, models: Path) -> None:
    """Remove a file. Raise StageError where a link would lead to it: engines can write to this cache."""
    try:
        beneath.remove(path, models)
    except beneath.LinkError as error:
        found = "is a link or a file, not a directory of the hub's cache: nothing behind it is removed"
        raise StageError(str(error.path), found, f"rm {error.path}, then run again") from None


def _contents(root: Path, link: Path) -> list[Path]:
    """Return what a snapshot's link leads to within the cache; nothing for files outside.

    That is the blob, which since huggingface_hub 1.32 may itself be a link into the store that all
    repositories share.
    """
    found: list[Path] = []
    path = link
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
        if not any(path.is_relative_to(inside) for inside in (root, root.parent / "blobs")):
            return []
        found.append(path)
    return found if path.is_file() else []
