"""What the tests of direct writes ask of the kernel itself."""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

import pytest

from sparkfleet.onhost.artifacts.copy.direct import BLOCK


def is_direct(descriptor: int) -> bool:
    """Tell whether what is written there goes past the page cache."""
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def skip_without_direct_writes(folder: Path) -> None:
    """Skip on a file system that takes none; found out without the code under test."""
    try:
        descriptor = os.open(folder / "tried", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        os.pwrite(descriptor, mmap.mmap(-1, BLOCK), 0)
    except OSError:
        pytest.skip("this file system takes no direct writes")
