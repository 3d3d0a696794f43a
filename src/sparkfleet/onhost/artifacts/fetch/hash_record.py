"""Known hashes of model files by (path, size, mtime, inode): ``verified.json``.

A file is hashed once, on arrival or on request; as long as size, mtime and inode are unchanged, it is not
read again. The locked name of a content is its SHA-256 (64 digits), or for small files its git object id (40
digits).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract.state import Verified, VerifiedFile
from sparkfleet.onhost.machine import files

CHUNK = 4 << 20
GIT_ID = 40
"""Hex digits of a git object id; a SHA-256 has 64."""

Record = Mapping[str, VerifiedFile]


@dataclass(frozen=True)
class FileToVerify:
    """A file and the name of its locked content."""

    path: Path
    blob: str


def read(state: Path) -> Record:
    """Return the record: real path -> file as it was hashed. Raise ContractError for a newer version's."""
    return files.read_or_default(Verified, state / "verified.json").files


def recorded_match(record: Record, file: FileToVerify) -> bool | None:
    """Return whether the file has its content; None if it was not hashed in its present state."""
    try:
        path = file.path.resolve(strict=True)
        entry = record.get(str(path))
        if entry is None or entry.blob != file.blob or _identity(path) != _identity_of(entry):
            return None
    except OSError:
        return None
    return entry.ok


def check(
    state: Path, to_verify: Sequence[FileToVerify], on_read: Callable[[int], None]
) -> list[FileToVerify]:
    """Hash the files in parallel and record the results; return those whose content is wrong.

    ``on_read`` is called with the number of bytes read since its last call, from any thread.
    """
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda file: _hash(file, on_read), to_verify))
    _record(state, {path: entry for path, entry in found if entry})
    return [file for file, (_, entry) in zip(to_verify, found, strict=True) if not entry or not entry.ok]


def remember(state: Path, received: Record) -> None:
    """Record files that were hashed on arrival."""
    _record(state, {os.path.realpath(path): entry for path, entry in received.items()})


def _record(state: Path, entries: Record) -> None:
    with _locked(state):
        present = {path: entry for path, entry in read(state).items() if os.path.exists(path)}
        files.write_document(state / "verified.json", Verified({**present, **entries}))


def content_is(path: Path, blob: str, on_read: Callable[[int], None] = lambda _: None) -> bool:
    """Hash a file and return whether its content has that name."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if len(blob) == GIT_ID:
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        else:
            digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            on_read(len(chunk))
            if hasattr(os, "posix_fadvise"):
                # The page cache shares memory with the engine: hashing must not fill it.
                at = file.tell() - len(chunk)
                os.posix_fadvise(file.fileno(), at, len(chunk), os.POSIX_FADV_DONTNEED)
    return digest.hexdigest() == blob


def _hash(file: FileToVerify, on_read: Callable[[int], None]) -> tuple[str, VerifiedFile | None]:
    try:
        path = file.path.resolve(strict=True)
        before = _identity(path)
        right = content_is(path, file.blob, on_read)
        if _identity(path) != before:
            return "", None  # it changed while it was read
    except OSError:
        return "", None
    size, mtime_ns, inode = before
    return str(path), VerifiedFile(size, mtime_ns, inode, file.blob, right)


def _identity(path: Path) -> tuple[int, int, int]:
    info = path.stat()
    return info.st_size, info.st_mtime_ns, info.st_ino


def _identity_of(entry: VerifiedFile) -> tuple[int, int, int]:
    return entry.size, entry.mtime_ns, entry.inode


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    with (state / "verified.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Counter:
    """Bytes read so far, from several threads."""

    def __init__(self) -> None:
        """Start at zero."""
        self.have = 0
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        """Add ``count``."""
        with self._lock:
            self.have += count
