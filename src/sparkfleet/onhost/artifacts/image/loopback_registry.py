"""A registry on this Spark's loopback, for the duration of one pull.

Docker accepts an image's digest only from a registry: a loaded image has none. Here dockerd reads manifests
and layers from a directory of contents by their hashes, and verifies the digest and everything below it, as
with any registry. The image's name shows where it came from; its digest is that of its original registry.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sparkfleet.contract.registry_credentials import Credential
from sparkfleet.onhost.artifacts.image import image_refs
from sparkfleet.onhost.artifacts.image.image_refs import LOOPBACK, USER

PORT = 7355
"""Preferred port; it becomes part of the image's name."""
BUFFER = 1 << 20
TLS_HANDSHAKE = b"\x16"
"""First byte of a connection by TLS."""
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PATH = re.compile(r"/v2/.+/(manifests|blobs)/sha256:([0-9a-f]{64})")


def content_path(folder: Path, digest: str) -> Path:
    """Return the path of a content in the directory."""
    return folder / digest.removeprefix("sha256:")


@dataclass(frozen=True)
class LoopbackRegistry:
    """A running registry, which requires a password."""

    port: int
    password: str = field(repr=False)

    def name(self, reference: str) -> str:
        """Return the name under which dockerd pulls ``repository@digest``."""
        return image_refs.loopback_name(self.port, reference)

    @property
    def credential(self) -> Credential:
        """Return what dockerd logs in with."""
        return Credential(USER, self.password, f"{LOOPBACK}:{self.port}")


@contextmanager
def serve(folder: Path) -> Iterator[LoopbackRegistry]:
    """Serve the contents of a directory, each in a file named by its SHA-256 in hex."""
    password = secrets.token_hex(32)
    server = _listen(_handler(folder, password))
    thread = threading.Thread(target=server.serve_forever, name="loopback registry", daemon=True)
    thread.start()
    try:
        yield LoopbackRegistry(server.server_address[1], password)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listen(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer((LOOPBACK, PORT), handler)
    except OSError:
        return ThreadingHTTPServer((LOOPBACK, 0), handler)


def _handler(folder: Path, password: str) -> type[BaseHTTPRequestHandler]:
    authorization = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        """Answers the requests of a pull by digest."""

        def handle(self) -> None:
            if self.connection.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:
                # With containerd's image store dockerd tries TLS first, also on loopback. Only an answer that
                # begins like HTTP lets it go on without.
                self.connection.recv(BUFFER)
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n")
                return
            super().handle()

        def do_GET(self) -> None:
            self._respond(body=True)

        def do_HEAD(self) -> None:
            self._respond(body=False)

        def _respond(self, *, body: bool) -> None:
            if not hmac.compare_digest(
                self.headers.get("Authorization", "").encode(), authorization.encode()
            ):
                self._send_head(401, {"WWW-Authenticate": f'Basic realm="{USER}"', "Content-Length": "0"})
                return
            match = _PATH.fullmatch(self.path)
            path = folder / match[2] if match else None
            if path is None or not path.is_file():
                self._send_head(200 if self.path == "/v2/" else 404, {"Content-Length": "0"})
                return
            kind = _media_type(path) if match and match[1] == "manifests" else "application/octet-stream"
            headers = {"Content-Type": kind, "Content-Length": str(path.stat().st_size)}
            self._send_head(200, {**headers, "Docker-Content-Digest": f"sha256:{path.name}"})
            if body:
                self._send(path)

        def _send_head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, path: Path) -> None:
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(BUFFER):
                    self.wfile.write(chunk)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # shares memory with the engine

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    return Handler


def _media_type(path: Path) -> str:
    """Return a manifest's media type: the declared one, or by its content."""
    data = json.loads(path.read_bytes())
    return str(data.get("mediaType") or (INDEX if "manifests" in data else MANIFEST))
