"""A file while it is received: written beside its target, hashed on arrival, renamed if correct."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparkfleet.contract.state import VerifiedFile
from sparkfleet.contract.transfer import FileToReceive
from sparkfleet.onhost.artifacts.copy.direct import DirectWriter
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import hash_record
from sparkfleet.onhost.machine import files

PARTIAL_SUFFIX = ".copying"
"""Suffix of an incomplete file."""
BUFFER = 1 << 20
FLUSH_EVERY = 256 << 20
"""Bytes after which written data is flushed and dropped from the page cache."""


def hash_of(blob: str, size: int) -> Any:
    """Return the hash object whose hex digest is the blob's name."""
    if len(blob) == hash_record.GIT_ID:
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return hashlib.sha256()


def find_complete(file: FileToReceive) -> VerifiedFile | None:
    """Return the file if its target already has the right content."""
    with _disk_errors(file):
        try:
            before = os.lstat(file.target)
            if before.st_size != file.size or not hash_record.content_is(Path(file.target), file.blob):
                return None
            found = _verified(file, before)
            return found if _verified(file, os.lstat(file.target)) == found else None
        except (FileNotFoundError, NotADirectoryError):
            return None


class IncomingFile:
    """A file while it is received. ``offset`` is how many bytes are written and hashed."""

    def __init__(self, file: FileToReceive) -> None:
        """Open the partial file and hash what an earlier attempt left in it."""
        self.file = file
        self._partial = file.target + PARTIAL_SUFFIX
        with _disk_errors(file):
            os.makedirs(os.path.dirname(file.target), exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._partial, flags, 0o644)
            if os.fstat(self._descriptor).st_size > file.size:
                os.ftruncate(self._descriptor, 0)
        self._writer = DirectWriter(self._descriptor)
        self._flushed = self.offset = 0
        self._digest = hash_of(file.blob, file.size)
        while chunk := os.pread(self._descriptor, BUFFER, self.offset):
            self._digest.update(chunk)
            self.offset += len(chunk)

    def append(self, part: memoryview) -> None:
        """Write and hash the next bytes."""
        with _disk_errors(self.file):
            self._writer.write(part, self.offset)
            self._digest.update(part)
            self.offset += len(part)
            if self.offset - self._flushed >= FLUSH_EVERY:
                self._flush()

    def finish(self) -> VerifiedFile | None:
        """Rename the file to its target and return it.

        If its hash is wrong, discard all of it and return None.
        """
        with _disk_errors(self.file):
            if self._digest.hexdigest() != self.file.blob:
                os.ftruncate(self._descriptor, 0)
                self._flushed = self.offset = 0
                self._digest = hash_of(self.file.blob, self.file.size)
                return None
            self._flush()
            result = _verified(self.file, os.fstat(self._descriptor))
            os.replace(self._partial, self.file.target)
            files.sync_directory(Path(self.file.target).parent)
        return result

    def close(self) -> None:
        """Close the partial file; the next attempt continues it."""
        os.close(self._descriptor)

    def _flush(self) -> None:
        os.fsync(self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self._flushed = self.offset


def _verified(file: FileToReceive, info: os.stat_result) -> VerifiedFile:
    return VerifiedFile(info.st_size, info.st_mtime_ns, info.st_ino, file.blob, ok=True)


@contextmanager
def _disk_errors(file: FileToReceive) -> Iterator[None]:
    """Raise StageError for an OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy = "free disk space (df -h), then run again; completed data is kept"
            raise StageError(file.name, "the disk is full", remedy, code="disk-full") from error
        remedy = "check the disk and the owner of the directory, then run again"
        raise StageError(file.name, f"cannot be written: {error}", remedy) from error
