"""Files, directories, and the file systems that hold them."""

from __future__ import annotations

import os
import stat

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def collect_path(path: str) -> dict[str, Any]:
    """Return what is at a path: kind, mode, owner and size."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "absent"}
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}.get(
        stat.S_IFMT(info.st_mode), "other"
    )
    user, group = basics.owner_of(info)
    seen = {
        "kind": kind,
        "mode": "%04o" % stat.S_IMODE(info.st_mode),
        "user": user,
        "group": group,
        "size": info.st_size,
    }
    if kind == "link":
        seen["target"] = os.readlink(path)
        if not os.path.exists(path):
            seen["kind"] = "broken link"
    return seen


def hashes(files: list[str]) -> dict[str, str]:
    """Return the SHA-256 of the contents of files, as far as one command reads them.

    ``hashlib`` loads OpenSSL, which costs the host more CPU than the command.
    """
    if not files:
        return {}
    lines = commands.run("sha256sum", "--zero", "--", *files)[1].split("\0")
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines) if path}


def disk(path: str) -> dict[str, Any]:
    """Return size and free bytes of the file system that holds a path or its nearest existing parent."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    info = os.statvfs(path)
    return {
        "path": path,
        "total": info.f_frsize * info.f_blocks,
        "free": info.f_frsize * info.f_bavail,
        "read_only": bool(info.f_flag & os.ST_RDONLY),
    }
