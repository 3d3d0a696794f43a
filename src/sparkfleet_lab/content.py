"""Content hashes of an image's inputs, and tar streams for containers."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One file inside a container."""

    path: str
    """Without the leading slash."""
    data: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def tar_of(entries: Iterable[Entry]) -> bytes:
    """Return a tar with these files, without entries for their directories, which must not change."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.size, info.mode, info.uid, info.gid = len(entry.data), entry.mode, entry.uid, entry.gid
            archive.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()


def tree(root: Path) -> tuple[Entry, ...]:
    """Return the files below ``root``; those in a ``bin`` or ``sbin`` are programs, sudo's are 0440."""
    found = []
    for path in sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        relative = path.relative_to(root)
        mode = 0o755 if {"bin", "sbin"} & set(relative.parts[:-1]) else 0o644
        mode = 0o440 if "sudoers.d" in relative.parts else mode
        found.append(Entry(relative.as_posix(), path.read_bytes(), mode))
    return tuple(found)


def digest(*parts: str | bytes | Iterable[Entry]) -> str:
    """Return 12 hex digits over texts, bytes and files (path, mode, owner and content)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(b"s" + part.encode() + b"\0")
        elif isinstance(part, bytes):
            total.update(b"b" + hashlib.sha256(part).digest())
        else:
            for entry in part:
                total.update(f"f{entry.path}\0{entry.mode}\0{entry.uid}\0{entry.gid}\0".encode())
                total.update(hashlib.sha256(entry.data).digest())
    return total.hexdigest()[:12]
