"""Files of the operator's machine that are replaced atomically."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tempfile
import time
from pathlib import Path

STALE_S = 600
"""Age in seconds from which a temporary file is stale: a write takes less than one."""
_TEMPORARY = re.compile(r"[a-z0-9_]{8}")
"""Suffix of the names that mkstemp creates."""


def write(path: Path, text: str) -> None:
    """Replace the file atomically: after a crash it is the old or the new one, complete."""
    _remove_stale(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp creates it with 0600; the file is not secret.
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _remove_stale(path: Path) -> None:
    """Remove temporary files of interrupted writes, recognized by name and age."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if _TEMPORARY.fullmatch(stale.name.removeprefix(f".{path.name}.")) and not stale.is_symlink():
            with contextlib.suppress(OSError):  # already removed, or no permission
                if stale.stat().st_mtime < time.time() - STALE_S:
                    stale.unlink()
