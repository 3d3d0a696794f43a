"""Writes past the page cache (O_DIRECT).

On a Spark the page cache shares memory with the GPU, so a copy must not fill it while an engine serves.
Buffered writes also cost a core about one second per GB, twice as much as hashing. The kernel accepts only
whole, aligned blocks, and some file systems accept none; everything else is written through the cache.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

BLOCK = 4096
"""Bytes: a multiple of what disks and file systems require."""


def buffer(size: int) -> memoryview:
    """Return memory that is aligned to a block."""
    return memoryview(mmap.mmap(-1, size))


class DirectWriter:
    """Writes to a descriptor at offsets, past the cache where possible."""

    def __init__(self, descriptor: int) -> None:
        """Start with buffered writes, as the descriptor was opened."""
        self._descriptor = descriptor
        self._direct, self._unsupported = False, False

    def write(self, part: memoryview, offset: int) -> None:
        """Write all of ``part`` at ``offset``. Raise OSError as ``os.pwrite`` does."""
        while part:
            whole = len(part) - len(part) % BLOCK
            self._set_direct(bool(whole) and offset % BLOCK == 0)
            try:
                done = os.pwrite(self._descriptor, part[:whole] if self._direct else part, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._disable()  # the file system accepts the flag, but not the write
                continue
            part, offset = part[done:], offset + done

    def _set_direct(self, direct: bool) -> None:
        direct = direct and not self._unsupported
        if direct == self._direct:
            return
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        flags = flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)
        except OSError:
            self._unsupported = True
        else:
            self._direct = direct

    def _disable(self) -> None:
        self._unsupported = True
        self._set_direct(False)
