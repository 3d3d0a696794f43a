"""One file on its way: written beside its place, hashed as it comes, renamed when the hash is right."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.copy.direct import DirectWriter
from sparkfleet.onhost.artifacts.fetch import verified
from sparkfleet.onhost.artifacts.fetch.pull import StageError
from sparkfleet.onhost.machine import files

BESIDE = ".copying"
"""Ending of a file that is not whole yet."""
BUFFER = 1 << 20
FLUSH_EVERY = 256 << 20
"""Bytes after which what was written leaves the page cache for the disk: the cache is the GPU's memory."""
Identity = tuple[int, int, int]
"""Size, mtime in nanoseconds and inode: while they stay, nobody has changed the file."""


@dataclass(frozen=True)
class FileToReceive:
    """A file to bring: its number at the sender, bytes, hash (SHA-256, or git's object id) and place."""

    number: int
    size: int
    blob: str
    target: str
    name: str
    """For people."""


def hash_of(blob: str, size: int) -> Any:
    """Return the hash object whose hex digest is the blob's name."""
    if len(blob) == verified.GIT_ID:
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return hashlib.sha256()


def here(file: FileToReceive) -> Identity | None:
    """Return what the file is when it lies in its place already, by its hash; None when it does not."""
    with _disk(file):
        try:
            found = _identity(os.lstat(file.target))
            if found[0] != file.size or not verified.content_is(Path(file.target), file.blob):
                return None
            return found if _identity(os.lstat(file.target)) == found else None
        except (FileNotFoundError, NotADirectoryError):
            return None


class Arriving:
    """A file while it comes. ``offset`` is how far it is, and how far its hash is."""

    def __init__(self, file: FileToReceive) -> None:
        """Open the file beside its place and read what an earlier try left through the hash."""
        self.file = file
        self._beside = file.target + BESIDE
        with _disk(file):
            os.makedirs(os.path.dirname(file.target), exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._beside, flags, 0o644)
            if os.fstat(self._descriptor).st_size > file.size:
                os.ftruncate(self._descriptor, 0)
        self._writer = DirectWriter(self._descriptor)
        self._flushed = self.offset = 0
        self._digest = hash_of(file.blob, file.size)
        while chunk := os.pread(self._descriptor, BUFFER, self.offset):
            self._digest.update(chunk)
            self.offset += len(chunk)

    def take(self, part: memoryview) -> None:
        """Write and hash the next bytes."""
        with _disk(self.file):
            self._writer.write(part, self.offset)
            self._digest.update(part)
            self.offset += len(part)
            if self.offset - self._flushed >= FLUSH_EVERY:
                self._flush()

    def finish(self) -> Identity | None:
        """Put the file in its place and return what it is; None for another hash.

        Then all of it is thrown away, to begin anew.
        """
        with _disk(self.file):
            if self._digest.hexdigest() != self.file.blob:
                os.ftruncate(self._descriptor, 0)
                self._flushed = self.offset = 0
                self._digest = hash_of(self.file.blob, self.file.size)
                return None
            self._flush()
            found = _identity(os.fstat(self._descriptor))
            os.replace(self._beside, self.file.target)
            files.sync_directory(Path(self.file.target).parent)
        return found

    def close(self) -> None:
        """Let go of it; what is there stays for the next try."""
        os.close(self._descriptor)

    def _flush(self) -> None:
        os.fsync(self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self._flushed = self.offset


def _identity(info: os.stat_result) -> Identity:
    return info.st_size, info.st_mtime_ns, info.st_ino


@contextmanager
def _disk(file: FileToReceive) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy = "df -h; free some room, then run again: what is there is kept"
            raise StageError("the disk is full", remedy) from error
        remedy = "check the disk and who owns the directory, then run again"
        raise StageError(f"{file.name} cannot be written: {error}", remedy) from error
