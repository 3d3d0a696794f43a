"""Models in an offline mirror, in the layout of a Hugging Face cache: which files are missing."""

from __future__ import annotations

from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.stage import ModelFile
from sparkfleet.desired_state import WeightFile, Weights
from sparkfleet.onhost.artifacts.fetch import hash_record, hub_cache


def snapshot(path: Path, weights: Weights) -> Path:
    """Return the directory of a model at its locked commit."""
    return hub_cache.repository(str(path), weights.repo) / "snapshots" / weights.revision


def hashes(path: Path) -> hash_record.Record:
    """Return the files of a mirror that were hashed. Raise SparkfleetError for a newer version's record."""
    return hash_record.read(path)


def missing(path: Path, weights: Weights) -> list[WeightFile]:
    """Return the files that are missing, or known to differ from their locked hash."""
    root = hub_cache.repository(str(path), weights.repo)
    found = hub_cache.wrong_files(root, weights.revision, plain(weights.files), hashes(path))
    wrong = {file.path for file in found}
    return [file for file in weights.files if file.path in wrong]


def lack(where: str, mirror: Path, weights: Weights) -> Diagnostic | None:
    """Return what an offline mirror lacks of a model; None when it is complete."""
    absent = missing(mirror, weights)
    if not absent:
        return None
    return Diagnostic(
        f"{where}: {weights.repo}",
        f"the offline mirror {mirror} lacks {len(absent)} of {len(weights.files)} files, or they differ: "
        f"{', '.join(file.path for file in absent[:3])}",
        "an offline mirror of the current lock file",
        f"run where the hub can be reached: sparkfleet mirror INVENTORY {mirror}",
        code="mirror-incomplete",
    )


def plain(files: tuple[WeightFile, ...] | list[WeightFile]) -> list[ModelFile]:
    """Return files as the contract has them."""
    return [ModelFile(file.path, file.size, file.blob) for file in files]
