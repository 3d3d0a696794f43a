"""Hashes model files on request, at the lowest priority while engines serve, with progress."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from pathlib import Path

from sparkfleet.contract import command
from sparkfleet.contract.stage import STAGED, ModelFiles, StageResult, VerifyRequest
from sparkfleet.onhost.artifacts.fetch import hash_record
from sparkfleet.onhost.artifacts.fetch.hub_cache import repository, wrong_files
from sparkfleet.onhost.artifacts.fetch.pull import PROGRESS_EVERY_S
from sparkfleet.onhost.state.journal import Journal

IONICE_S = 20.0


def verify(request: VerifyRequest, state: Path, journal: Journal) -> StageResult:
    """Hash the files that exist with their size; return those whose content is not the locked one."""
    _lower_priority()
    changed: dict[str, tuple[str, ...]] = {}
    count = 0
    for model in request.repositories:
        record = hash_record.read(state)  # also before a rehash: the results are written there
        root = repository(request.models_dir, model.repo)
        files = _to_verify(root, model, {} if request.rehash else record)
        count += len(files)
        wrong = hash_files(state, list(files.values()), journal, model.repo)
        paths = tuple(path for path, file in files.items() if file in wrong)
        if paths:
            changed[f"{model.repo}@{model.revision}"] = paths
    return StageResult(STAGED, text=f"{count} files hashed", changed=changed)


def _to_verify(
    root: Path, model: ModelFiles, record: hash_record.Record
) -> Mapping[str, hash_record.FileToVerify]:
    """Return the complete files without a known hash, by their paths in the repository."""
    incomplete = {file.path for file in wrong_files(root, model.revision, model.files)}
    files = {
        file.path: hash_record.FileToVerify(root / "snapshots" / model.revision / file.path, file.blob)
        for file in model.files
        if file.blob and file.path not in incomplete
    }
    return {
        path: file for path, file in files.items() if hash_record.recorded_match(record, file) is not True
    }


def hash_files(
    state: Path, to_verify: Sequence[hash_record.FileToVerify], journal: Journal, subject: str
) -> list[hash_record.FileToVerify]:
    """Hash the files with progress; return those whose content is wrong."""
    counter = hash_record.Counter()
    total = sum(_size(file.path) for file in to_verify)
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(hash_record.check, state, to_verify, counter)
        while True:
            text = f"{subject} {counter.have >> 20} of {total >> 20} MiB"
            journal.log("phase", text, phase="verify", have=counter.have, total=total)
            with contextlib.suppress(NotYetError):
                return hashing.result(PROGRESS_EVERY_S)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lower_priority() -> None:
    """Use only idle CPU and disk time: engines have priority."""
    os.nice(19)
    argv = ["ionice", "-c", "3", "-p", str(os.getpid())]
    command.run(argv, IONICE_S)
