"""The Docker Engine API over its unix socket, in its newest version.

The one client on a Spark: the driver and the probe have it. http.client would double the CPU that a plan
costs the host (docs/explanation/decisions.md).
"""

from __future__ import annotations

import json
import socket

from sparkfleet.runtimes.errors import (
    DENIED,
    DOWN,
    HANGS,
    MISSING,
    RuntimeRefusedError,
    RuntimeUnavailableError,
)

TYPE_CHECKING = False  # as typing's, without its import: the probe has this module, too
if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedReader
    from typing import Any

SOCKET = "/var/run/docker.sock"
CONTAINERD_DATA = "/var/lib/containerd"
"""Where images are stored with the containerd image store."""
QUICK_S = 20.0
"""Seconds for a response that needs no work of dockerd. A dockerd under memory pressure is slow, not gone."""
NOT_FOUND, NOT_MODIFIED, FIRST_ERROR = 404, 304, 400


class Response:
    """One response; ``stream`` is its body, which ends with the connection."""

    def __init__(self, stream: BufferedReader) -> None:
        """Read the status line and the headers (names in lower case)."""
        self.stream = stream
        version, _, rest = stream.readline().decode("latin-1").partition(" ")
        if not version.startswith("HTTP/"):
            raise ConnectionError("the daemon hung up")
        self.status = int(rest.split()[0])
        lines = iter(lambda: stream.readline().decode("latin-1").strip(), "")
        fields = (line.partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in fields}

    def read(self) -> bytes:
        """Return the whole body. Raise ConnectionError when it was cut off."""
        body = self.stream.read()
        if len(body) < int(self.headers.get("content-length") or 0) and self.status != NOT_MODIFIED:
            raise ConnectionError("the daemon hung up in the middle of a response")
        return body


class Connection:
    """HTTP/1.0 over a unix socket: one request per connection, no chunks in the response."""

    def __init__(self, path: str, timeout: float | None) -> None:
        """Remember the socket; it is opened with the request."""
        self._path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self._stream = self.sock.makefile("rb")

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send a request and return the response as soon as its headers are there."""
        fields = {"Host": "docker", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.sock.connect(self._path)
        self.sock.sendall(f"{method} {target} HTTP/1.0\r\n{head}\r\n".encode() + body)
        return Response(self._stream)

    def close(self) -> None:
        """Close the socket."""
        self._stream.close()
        self.sock.close()

    def shut_down(self) -> None:
        """End a read in another thread."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


class EngineApi:
    """Client of one dockerd. Safe to use from several threads: each request has its own connection."""

    def __init__(self, path: str = SOCKET, *, quick_s: float = QUICK_S, versioned: bool = True) -> None:
        """Remember the socket; nothing is requested yet.

        ``quick_s`` limits requests without a limit of their own. Without ``versioned`` dockerd chooses its
        newest API: one request less.
        """
        self._path = path
        self._quick_s = quick_s
        self._versioned = versioned
        self._version = ""

    def get(self, path: str) -> Any:
        """Return the decoded response to GET, None for 404."""
        return self._json("GET", path, missing_ok=True)

    def _prefix(self) -> str:
        """Return ``/v<newest API version here>``: old and new Engines refuse each other's fixed ones."""
        if not self._versioned:
            return ""
        if not self._version:
            headers, _ = self._ask("GET", "/_ping", timeout=5)
            self._version = headers.get("api-version", "1.41")
        return f"/v{self._version}"

    def _json(self, method: str, path: str, *, missing_ok: bool = False) -> Any:
        _, body = self._ask(method, path, missing_ok=missing_ok)
        return json.loads(body) if body else None

    def _ask(
        self, method: str, path: str, data: Any = None, *, timeout: float = 0.0, missing_ok: bool = False
    ) -> tuple[dict[str, str], bytes]:
        prefix = "" if path == "/_ping" else self._prefix()
        connection = Connection(self._path, timeout or self._quick_s)
        try:
            body = b"" if data is None else json.dumps(data).encode()
            response = connection.request(method, prefix + path, body, {"Content-Type": "application/json"})
            content = response.read()
        except (OSError, ValueError) as error:
            detail = f"dockerd does not answer on {self._path}: {error or type(error).__name__}"
            raise RuntimeUnavailableError(detail, _state(error)) from error
        finally:
            connection.close()
        if missing_ok and response.status == NOT_FOUND:
            return {}, b""
        if response.status >= FIRST_ERROR:
            raise RuntimeRefusedError(message(content) or f"HTTP {response.status}", response.status)
        return response.headers, b"" if response.status == NOT_MODIFIED else content


def _state(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return MISSING
    if isinstance(error, PermissionError):
        return DENIED
    return HANGS if isinstance(error, TimeoutError) else DOWN


def data_of(info: Mapping[str, Any]) -> str:
    """Return the directory with the images, by ``/info``. A new Docker 29 has them in containerd's store."""
    in_containerd = ["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or ())
    return CONTAINERD_DATA if in_containerd else info.get("DockerRootDir") or "/var/lib/docker"


def message(body: bytes) -> str:
    """Return the message of an error response."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip()
