"""The history of a host: who changed which service when, and how that ended. Bounded, without secrets."""

from __future__ import annotations

from pathlib import Path

from sparkfleet.contract import codec
from sparkfleet.contract.history import FILE, OLDER_FILE, HistoryEntry
from sparkfleet.onhost.machine import files

MAX_BYTES = 256 * 1024
"""Size from which on the file becomes the older one, which is replaced."""
LATEST_BYTES = 64 * 1024
"""Bytes at the end that are searched for an entry that an interrupted program wrote."""


def append(state: Path, entry: HistoryEntry) -> None:
    """Append an entry; a rollout has one, however often its end is repeated. Raise OSError."""
    path = state / FILE
    line = codec.dumps(entry)
    if path.exists():
        if entry.rollout and f'"rollout": "{entry.rollout}"' in _latest(path):
            return
        if path.stat().st_size + len(line) > MAX_BYTES:
            path.replace(state / OLDER_FILE)
    files.append_line(path, line, sync=True)


def _latest(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LATEST_BYTES))
        return stream.read(LATEST_BYTES).decode("utf-8", "replace")
