"""Models into an offline mirror: downloaded by the hub's own client, hashed once."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, snapshot_download

from sparkfleet.config.resolved import WeightFile, Weights
from sparkfleet.contract import hub_access
from sparkfleet.lock.hub import HubError
from sparkfleet.offline import models
from sparkfleet.onhost.artifacts.fetch import hub_cache, verified

WORKERS = 8
"""Files that are downloaded at once."""


def bring(path: Path, weights: Weights, endpoint: str, token: str, tell: Callable[[str], None]) -> None:
    """Download what is missing of a model, and hash what was not hashed. Raise HubError if that fails."""
    absent = models.missing(path, weights)
    if absent:
        total = sum(file.size for file in absent)
        tell(f"{weights.repo}: {len(absent)} of {len(weights.files)} files, {total >> 20} MiB to download")
        _refuse_closed(weights, endpoint, token, absent[0])
        root = hub_cache.repository(str(path), weights.repo)
        hub_cache.clear(root, weights.revision, models.plain(absent), verified.read(path))
        _download(path, weights, endpoint, token, absent)
    _verify(path, weights, tell)


def _refuse_closed(weights: Weights, endpoint: str, token: str, file: WeightFile) -> None:
    """Raise HubError for a model that the hub will not give to this token, before a download."""
    answer = hub_access.ask(endpoint, weights.repo, weights.revision, file.path, token)
    refused = hub_access.refusal(answer, weights.repo, endpoint)
    if refused:
        raise HubError(*refused)


def _download(path: Path, weights: Weights, endpoint: str, token: str, files: list[WeightFile]) -> None:
    constants.HF_HUB_DISABLE_SHARED_BLOBS = (
        True  # an offline mirror is read by whatever is there, old releases too
    )
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
    except Exception as error:  # noqa: BLE001  (its releases use different HTTP clients, with errors of their own)
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        found = f"the download of {weights.repo} broke off: {said}"
        raise HubError(found, "run again: what is there is kept") from None


def _verify(path: Path, weights: Weights, tell: Callable[[str], None]) -> None:
    record, folder = verified.read(path), models.snapshot(path, weights)
    named = {
        file.path: verified.FileToVerify(folder / file.path, file.blob) for file in weights.files if file.blob
    }
    unknown = [one for one in named.values() if verified.known(record, one) is not True]
    if unknown:
        tell(f"{weights.repo}: {len(unknown)} files to hash")
        verified.check(path, unknown, lambda _: None)
    wrong = [file.path for file in models.missing(path, weights)]
    if wrong:
        raise HubError(
            f"{weights.repo}: {len(wrong)} files are not as locked: {', '.join(sorted(wrong)[:3])}",
            "run again: they alone are fetched anew; if it stays, the hub or a proxy before it is broken",
        )
