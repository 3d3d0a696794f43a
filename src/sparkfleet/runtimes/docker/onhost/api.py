"""The Docker Engine API: HTTP over its unix socket, in its newest version, and its log streams."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError

SOCKET = "/var/run/docker.sock"
QUICK_S = 20.0
"""Seconds for a response that needs no work of dockerd. A dockerd under memory pressure is slow, not gone."""
NOT_FOUND, NOT_MODIFIED, FIRST_ERROR = 404, 304, 400


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        """Remember the socket; it is opened with the first request."""
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class EngineApi:
    """Client of one dockerd. Safe to use from several threads: each request has its own connection."""

    def __init__(self, path: str = SOCKET) -> None:
        """Remember the socket; nothing is asked yet."""
        self._path = path
        self._version = ""

    def _prefix(self) -> str:
        """Return ``/v<newest API version here>``: old and new Engines refuse each other's fixed ones."""
        if not self._version:
            headers, _ = self._ask("GET", "/_ping", timeout=5)
            self._version = headers.get("Api-Version", "1.41")
        return f"/v{self._version}"

    def _json(self, method: str, path: str, *, missing_ok: bool = False) -> Any:
        _, body = self._ask(method, path, missing_ok=missing_ok)
        return json.loads(body) if body else None

    def _ask(
        self, method: str, path: str, data: Any = None, *, timeout: float = QUICK_S, missing_ok: bool = False
    ) -> tuple[dict[str, str], bytes]:
        prefix = "" if path == "/_ping" else self._prefix()
        connection = Connection(self._path, timeout)
        try:
            body = None if data is None else json.dumps(data)
            connection.request(method, prefix + path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise RuntimeUnavailableError(
                f"dockerd does not answer on {self._path}: {error or type(error).__name__}"
            ) from error
        finally:
            connection.close()
        if missing_ok and response.status == NOT_FOUND:
            return {}, b""
        if response.status >= FIRST_ERROR:
            raise RuntimeRefusedError(message(answer) or f"HTTP {response.status}", response.status)
        return dict(response.getheaders()), b"" if response.status == NOT_MODIFIED else answer


def part(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe="")


def message(body: bytes) -> str:
    """Return the message of an error response."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip()


def unframed(body: bytes) -> bytes:
    """Return the output without dockerd's 8-byte frame headers (stream, 3 zeros, length)."""
    parts, at = [], 0
    while at + 8 <= len(body):
        length = int.from_bytes(body[at + 4 : at + 8], "big")
        parts.append(body[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts)


def lines_of(stream: http.client.HTTPResponse, *, tty: bool) -> Iterator[str]:
    """Yield decoded lines of a log stream; stdout and stderr are cut into lines apart."""
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
        for line in whole:
            yield line.rstrip(b"\r").decode("utf-8", "replace")
    for line in rest.values():
        if line:
            yield line.decode("utf-8", "replace")
