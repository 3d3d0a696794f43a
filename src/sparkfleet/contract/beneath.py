"""Removes and gives away files below a directory that others can write to, and follows no link there.

An engine that is root in its container can replace a directory in a mounted cache by a link, also between a
check and its use. So a path is walked by descriptors from a directory that is trusted, each step without
following a link.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LinkError(OSError):
    """A directory on the way is a link, or no directory; ``path`` is it."""

    def __init__(self, path: Path) -> None:
        """Say what is expected."""
        super().__init__(errno.ELOOP, f"expected a directory, found a link or a file: {path}")
        self.path = path


@contextmanager
def parent_of(path: Path, root: Path) -> Iterator[int]:
    """Yield a descriptor of the directory that ``path`` is in, below ``root``.

    ``root`` may be a link, nothing below it. Raise LinkError, FileNotFoundError, or ValueError for a path
    that is not below ``root``.
    """
    names = path.relative_to(root).parts
    if not names or ".." in names:
        raise ValueError(f"{path} is not below {root}")
    descriptor, directory = os.open(root, _DIRECTORY), root
    try:
        for name in names[:-1]:
            directory /= name
            try:
                inner = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                    raise LinkError(directory) from None
                raise
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def remove(path: Path, root: Path) -> None:
    """Remove a file, a link or a whole directory below ``root``, if it exists. Raise LinkError."""
    try:
        with parent_of(path, root) as folder:
            if stat.S_ISDIR(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
                # Python 3.10 has no rmtree(dir_fd=...). Below its argument it follows no link either.
                shutil.rmtree(f"/proc/self/fd/{folder}/{path.name}", ignore_errors=True)
            else:
                os.unlink(path.name, dir_fd=folder)
    except FileNotFoundError:
        return


def remove_cache(path: Path, root: Path) -> None:
    """Remove a directory below ``root``; where a link leads there, only the link."""
    try:
        remove(path, root)
    except LinkError as error:
        remove(error.path, root)


def open_to_append(path: Path, root: Path) -> int:
    """Open a file below ``root``, which is created; return its descriptor. Raise LinkError, OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with parent_of(path, root) as folder:
        return os.open(f"/proc/self/fd/{folder}/{path.name}", flags, 0o644)


def chown(path: Path, root: Path, uid: int, gid: int) -> None:
    """Give a file, link or directory below ``root`` to a user. Raise LinkError, OSError."""
    with parent_of(path, root) as folder:
        os.chown(path.name, uid, gid, dir_fd=folder, follow_symlinks=False)
