"""Downloads models into an offline mirror with the hub's own client, and hashes each file once."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, snapshot_download

from sparkfleet.contract import hub_access
from sparkfleet.desired_state import WeightFile, Weights
from sparkfleet.lock.errors import HubError
from sparkfleet.offline import models
from sparkfleet.onhost.artifacts.fetch import hash_record, hub_cache

WORKERS = 8
"""Concurrent downloads."""


def download(path: Path, weights: Weights, endpoint: str, token: str, log: Callable[[str], None]) -> None:
    """Download the missing files of a model, and hash new ones. Raise HubError if that fails."""
    absent = models.missing(path, weights)
    if absent:
        total = sum(file.size for file in absent)
        log(f"{weights.repo}: downloading {len(absent)} of {len(weights.files)} files, {total >> 20} MiB")
        _check_access(weights, endpoint, token, absent[0])
        root = hub_cache.repository(str(path), weights.repo)
        hub_cache.clear(root, weights.revision, models.plain(absent), models.hashes(path))
        _download(path, weights, endpoint, token, absent)
    _verify(path, weights, log)


def _check_access(weights: Weights, endpoint: str, token: str, file: WeightFile) -> None:
    """Raise HubError if the hub refuses this token access to the model."""
    response = hub_access.ask(endpoint, weights.repo, weights.revision, file.path, token)
    refused = hub_access.refusal(response, weights.repo, endpoint)
    if refused:
        raise HubError(refused.message, refused.hint)


def _download(path: Path, weights: Weights, endpoint: str, token: str, files: list[WeightFile]) -> None:
    constants.HF_HUB_DISABLE_SHARED_BLOBS = True  # older releases of the client read the mirror, too
    try:
        snapshot_download(
            weights.repo,
            revision=weights.revision,
            cache_dir=path / "hub",
            allow_patterns=[glob.escape(file.path) for file in files],
            token=token or False,
            endpoint=endpoint or None,
            max_workers=WORKERS,
        )
    except Exception as error:  # noqa: BLE001  (each release of it uses another HTTP client, with other errors)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        message = f"the download of {weights.repo} failed: {reason}"
        raise HubError(message, "run again: downloaded files are kept") from None


def _verify(path: Path, weights: Weights, log: Callable[[str], None]) -> None:
    record, folder = models.hashes(path), models.snapshot(path, weights)
    named = {
        file.path: hash_record.FileToVerify(folder / file.path, file.blob)
        for file in weights.files
        if file.blob
    }
    unknown = [one for one in named.values() if hash_record.recorded_match(record, one) is not True]
    if unknown:
        log(f"{weights.repo}: hashing {len(unknown)} files")
        hash_record.check(path, unknown, lambda _: None)
    wrong = [file.path for file in models.missing(path, weights)]
    if wrong:
        raise HubError(
            f"{weights.repo}: {len(wrong)} files do not match the lock file: {', '.join(sorted(wrong)[:3])}",
            "run again to download them again; if it happens again, the hub or a proxy in between is faulty",
        )
