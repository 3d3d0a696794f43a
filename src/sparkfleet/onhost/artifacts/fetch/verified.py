"""Hashes of model files, remembered by (file, size, mtime, inode): ``verified.json``.

A file is hashed once, on arrival or on request; as long as size, mtime and inode stay what they were, nobody
needs to read it again. The locked name of a content is its SHA-256 (64 digits), or for small files the id
that git gives it (40 digits).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.contract.state import Verified, VerifiedFile
from sparkfleet.onhost.machine import files

CHUNK = 4 << 20
GIT_ID = 40
"""Hex digits of a git object id; a SHA-256 has 64."""

Record = Mapping[str, VerifiedFile]


@dataclass(frozen=True)
class FileToVerify:
    """One file and the name of the content that it must have."""

    path: Path
    blob: str


def read(state: Path) -> Record:
    """Return what is known: real path -> size, mtime_ns, inode, blob and ``ok``."""
    return files.read_or_default(Verified, state / "verified.json").files


def known(record: Record, wanted: FileToVerify) -> bool | None:
    """Return whether the file has its content, as far as it was hashed in its present state; None: not."""
    try:
        path = wanted.path.resolve(strict=True)
        entry = record.get(str(path))
        if entry is None or entry.blob != wanted.blob or _identity(path) != _identity_of(entry):
            return None
    except OSError:
        return None
    return entry.ok


def check(state: Path, wanted: Sequence[FileToVerify], tell: Callable[[int], None]) -> list[FileToVerify]:
    """Hash the files, several at once, and remember what was found; return those with another content.

    ``tell`` is called with the number of bytes read since its last call, from any thread.
    """
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda one: _look(one, tell), wanted))
    _keep(state, {path: entry for path, entry in found if entry})
    return [one for one, (_, entry) in zip(wanted, found, strict=True) if not entry or not entry.ok]


def remember(state: Path, arrived: Mapping[str, tuple[str, int, int, int]]) -> None:
    """Write down files that were hashed as they came: place -> blob, size, mtime_ns, inode at that moment."""
    _keep(
        state,
        {
            os.path.realpath(path): VerifiedFile(size, mtime, inode, blob, ok=True)
            for path, (blob, size, mtime, inode) in arrived.items()
        },
    )


def _keep(state: Path, entries: Record) -> None:
    with _lock(state) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = {path: entry for path, entry in read(state).items() if os.path.exists(path)}
        files.write_json(state / "verified.json", Verified({**kept, **entries}).to_json())


def content_is(path: Path, blob: str, tell: Callable[[int], None] = lambda _: None) -> bool:
    """Hash a file and return whether its content is the one of that name."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if len(blob) == GIT_ID:
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        else:
            digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            tell(len(chunk))
            if hasattr(os, "posix_fadvise"):
                # The page cache is the engine's memory on a Spark: what was read for a hash must not fill it.
                at = file.tell() - len(chunk)
                os.posix_fadvise(file.fileno(), at, len(chunk), os.POSIX_FADV_DONTNEED)
    return digest.hexdigest() == blob


def _look(wanted: FileToVerify, tell: Callable[[int], None]) -> tuple[str, VerifiedFile | None]:
    try:
        path = wanted.path.resolve(strict=True)
        before = _identity(path)
        right = content_is(path, wanted.blob, tell)
        if _identity(path) != before:
            return "", None  # somebody writes to it: what was read is no statement
    except OSError:
        return "", None
    size, mtime_ns, inode = before
    return str(path), VerifiedFile(size, mtime_ns, inode, wanted.blob, right)


def _identity(path: Path) -> tuple[int, int, int]:
    info = path.stat()
    return info.st_size, info.st_mtime_ns, info.st_ino


def _identity_of(entry: VerifiedFile) -> tuple[int, int, int]:
    return entry.size, entry.mtime_ns, entry.inode


def _lock(state: Path) -> Any:
    return (state / "verified.lock").open("w")


class Counter:
    """Bytes read so far, from several threads."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.have = 0
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        """Add to it."""
        with self._lock:
            self.have += count
