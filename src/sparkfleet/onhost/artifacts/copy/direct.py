"""Writing past the page cache (O_DIRECT).

On a Spark the page cache is the GPU's memory: what is copied while an engine serves should not go through
it. And the way through it costs a core about a second for each GB, twice as much as the hash. The kernel
takes whole blocks from whole blocks of memory only, and some file systems take none: what does not fit is
written as ever.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

BLOCK = 4096
"""Bytes: a multiple of what disks and file systems ask for."""


def buffer(size: int) -> memoryview:
    """Return memory that begins at a block's border."""
    return memoryview(mmap.mmap(-1, size))


class DirectWriter:
    """Writes to a descriptor at offsets: past the cache where it can."""

    def __init__(self, descriptor: int) -> None:
        """Begin as the descriptor was opened, through the cache."""
        self._descriptor = descriptor
        self._direct, self._refused = False, False

    def write(self, part: memoryview, offset: int) -> None:
        """Write all of ``part`` at ``offset``. Raise OSError as ``os.pwrite`` does."""
        while part:
            whole = len(part) - len(part) % BLOCK
            self._be_direct(bool(whole) and offset % BLOCK == 0)
            try:
                done = os.pwrite(self._descriptor, part[:whole] if self._direct else part, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._refuse()  # a file system that takes the flag, and then not the write
                continue
            part, offset = part[done:], offset + done

    def _be_direct(self, wanted: bool) -> None:
        wanted = wanted and not self._refused
        if wanted == self._direct:
            return
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        flags = flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)
        except OSError:
            self._refused = True
        else:
            self._direct = wanted

    def _refuse(self) -> None:
        self._refused = True
        self._be_direct(False)
