"""Hashing model files on request, beside what serves: at the lowest priority, with progress.

What was hashed in its present state is not read again, unless that is asked for.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.fetch import verified
from sparkfleet.onhost.artifacts.fetch.hub_cache import repository, wrong_files
from sparkfleet.onhost.artifacts.fetch.pull import TELL_EVERY_S
from sparkfleet.onhost.state.journal import Journal


def carry_out(request: dict[str, Any], state: Path, journal: Journal) -> dict[str, Any]:
    """Hash the files that are there with their size; return which have another content than the locked."""
    _step_back()
    changed: dict[str, list[str]] = {}
    count = 0
    for weights in request["repositories"]:
        root = repository(request["models_dir"], weights["repo"])
        files = _readable(root, weights, {} if request.get("again") else verified.read(state))
        count += len(files)
        found = hash_files(state, list(files.values()), journal, weights["repo"])
        names = [path for path, one in files.items() if one in found]
        if names:
            changed[f"{weights['repo']}@{weights['revision']}"] = names
    return {"outcome": "staged", "text": f"{count} files hashed", "changed": changed}


def _readable(
    root: Path, weights: dict[str, Any], record: verified.Record
) -> dict[str, verified.FileToVerify]:
    wrong = {file["path"] for file in wrong_files(root, weights["revision"], weights["files"])}
    there = {
        file["path"]: verified.FileToVerify(
            root / "snapshots" / weights["revision"] / file["path"], file["blob"]
        )
        for file in weights["files"]
        if file["blob"] and file["path"] not in wrong
    }
    return {path: one for path, one in there.items() if verified.known(record, one) is not True}


def hash_files(
    state: Path, wanted: Sequence[verified.FileToVerify], journal: Journal, name: str
) -> list[verified.FileToVerify]:
    """Hash the files, telling how far it is; return those with another content."""
    counter = verified.Counter()
    total = sum(_size(one.path) for one in wanted)
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(verified.check, state, wanted, counter)
        while True:
            text = f"{name} {counter.have >> 20} of {total >> 20} MiB"
            journal.log("phase", text, phase="verify", have=counter.have, total=total)
            with contextlib.suppress(NotYetError):
                return hashing.result(TELL_EVERY_S)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _step_back() -> None:
    """Take what processor and disk have left over: an engine serves meanwhile."""
    os.nice(19)
    with contextlib.suppress(OSError):
        subprocess.run(["ionice", "-c", "3", "-p", str(os.getpid())], capture_output=True, check=False)
