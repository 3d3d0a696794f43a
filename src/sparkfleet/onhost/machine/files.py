"""Files that survive a power cut: written beside, synced, renamed. All state is written this way."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from sparkfleet.contract import codec

D = TypeVar("D", bound=codec.Document)


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Write ``text`` to ``path``: a reader, or a reboot, sees either the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_from(
    source: IO[bytes],
    target: IO[bytes],
    most: int,
    step: int,
    arrived: Callable[[int], None] = lambda _: None,
) -> None:
    """Write what ``source`` has, ``step`` bytes at once, and end one byte after ``most``.

    ``arrived`` is called with the size of each part.
    """
    left = most + 1
    while left and (part := source.read(min(step, left))):
        target.write(part)
        left -= len(part)
        arrived(len(part))


def write_document(path: Path, document: codec.Document, mode: int = 0o644) -> None:
    """Write a document as readable JSON, atomically."""
    write_atomic(path, _text(document), mode)


def is_written(path: Path, document: codec.Document) -> bool:
    """Return whether the file is what ``write_document`` would write."""
    try:
        return path.read_text(encoding="utf-8") == _text(document)
    except (OSError, ValueError):
        return False


def _text(document: codec.Document) -> str:
    return json.dumps(document.to_json(), indent=1, ensure_ascii=False) + "\n"


def read_document(kind: type[D], path: Path) -> D | None:
    """Return the document in ``path``; None when there is no such file. Raise ContractError."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return codec.loads(kind, text, str(path))


def read_or_default(kind: type[D], path: Path) -> D:
    """Return the document in ``path``; the one with nothing in it when there is none that can be read.

    For files that are written again anyway: an invalid one may be lost, one of a newer version may not. Raise
    ContractError for that one, which must not be written.
    """
    try:
        return read_document(kind, path) or kind()
    except codec.ContractError as error:
        if error.diagnostic.code == codec.NEWER:
            raise
        return kind()


def append_line(path: Path, line: str, *, sync: bool) -> None:
    """Append one line. A torn last line, left by a kill, is closed first: it must not swallow this one."""
    with path.open("a+b") as stream:
        stream.seek(0, os.SEEK_END)
        torn = False
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            torn = stream.read(1) != b"\n"
        stream.write((b"\n" if torn else b"") + line.encode() + b"\n")
        stream.flush()
        if sync:
            os.fsync(stream.fileno())


def remove(path: Path) -> None:
    """Remove a file or a whole directory, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make a rename in ``path`` last over a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
