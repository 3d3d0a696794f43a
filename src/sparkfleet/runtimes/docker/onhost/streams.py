"""Log streams of the Docker Engine API."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader

LINE_LIMIT = 64 * 1024
"""Bytes after which a line is passed on without its end: an engine may never write one."""


def unframed(body: bytes) -> bytes:
    """Return the output without dockerd's 8-byte frame headers (stream, 3 zeros, length)."""
    parts, at = [], 0
    while at + 8 <= len(body):
        length = int.from_bytes(body[at + 4 : at + 8], "big")
        parts.append(body[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts)


def lines_of(stream: BufferedReader, *, tty: bool) -> Iterator[str]:
    """Yield decoded lines of a log stream; lines of stdout and stderr are assembled separately."""
    rest = {1: b"", 2: b""}
    while True:
        if tty:
            kind, chunk = 1, stream.read1(65536)
            if not chunk:
                break
        else:
            header = stream.read(8)
            if len(header) < len("12345678"):
                break
            kind = 2 if header[0] == 2 else 1  # noqa: PLR2004 (docker's number for stderr)
            chunk = stream.read(int.from_bytes(header[4:], "big"))
        *whole, rest[kind] = (rest[kind] + chunk).split(b"\n")
        if len(rest[kind]) > LINE_LIMIT:
            whole.append(rest[kind])
            rest[kind] = b""
        for line in whole:
            yield line.rstrip(b"\r").decode("utf-8", "replace")
    for line in rest.values():
        if line:
            yield line.decode("utf-8", "replace")
