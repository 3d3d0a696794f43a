"""Helpers of all collectors: text of files, owners, programs on PATH."""

from __future__ import annotations

import grp
import os
import pwd

STATE_DIR = "/var/lib/sparkfleet"
UNIT_DIR = "/etc/systemd/system"


def which(name: str) -> bool:
    """Tell whether a program is on PATH."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in folders)


def read_text(path: str, limit: int = 1 << 20) -> str | None:
    """Return a file's text, None without the file, or if it was that of a process that has ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None


def owner_of(info: os.stat_result) -> tuple[str, str]:
    """Return the names of user and group, or their ids where they have no name."""
    try:
        user = pwd.getpwuid(info.st_uid).pw_name
    except KeyError:
        user = str(info.st_uid)
    try:
        group = grp.getgrgid(info.st_gid).gr_name
    except KeyError:
        group = str(info.st_gid)
    return user, group


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file's content."""
    import hashlib  # noqa: PLC0415  (it loads OpenSSL: 5 ms)

    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
