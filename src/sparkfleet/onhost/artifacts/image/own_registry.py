"""A registry on this Spark's own loopback, for the time of one pull.

docker takes an image's digest from a registry alone: what ``docker load`` brings has none. Here dockerd reads
manifests and layers from a directory of contents by their hashes, and checks the digest and everything below
it by itself, as with any registry. The name that the image gets says where it came from; its digest is the
very one that the image's own registry would give it.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.image import image_refs
from sparkfleet.onhost.artifacts.image.image_refs import HOME, USER

PORT = 7355
"""Where it listens when nobody else does: the port becomes a part of the image's name."""
BUFFER = 1 << 20
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PATH = re.compile(r"/v2/.+/(manifests|blobs)/sha256:([0-9a-f]{64})")


def place(folder: Path, digest: str) -> Path:
    """Return where a content lies in the directory."""
    return folder / digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Opened:
    """The registry while it is open: who has no password gets nothing."""

    port: int
    password: str = field(repr=False)

    def name(self, reference: str) -> str:
        """Return what dockerd pulls for ``repository@digest``."""
        return image_refs.made(self.port, reference)

    @property
    def auth(self) -> str:
        """Return the X-Registry-Auth header."""
        words = {"username": USER, "password": self.password, "serveraddress": f"{HOME}:{self.port}"}
        return base64.urlsafe_b64encode(json.dumps(words).encode()).decode()


@contextmanager
def of(folder: Path) -> Iterator[Opened]:
    """Have a registry of the contents of a directory, each in a file named by its SHA-256 in hex."""
    password = secrets.token_hex(32)
    server = _listening(_handler(folder, password))
    thread = threading.Thread(target=server.serve_forever, name="own registry", daemon=True)
    thread.start()
    try:
        yield Opened(server.server_address[1], password)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listening(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer((HOME, PORT), handler)
    except OSError:
        return ThreadingHTTPServer((HOME, 0), handler)


def _handler(folder: Path, password: str) -> type[BaseHTTPRequestHandler]:
    known = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        """Answers what a pull by digest asks."""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), known.encode()):
                self._say(401, {"WWW-Authenticate": f'Basic realm="{USER}"', "Content-Length": "0"})
                return
            asked = _PATH.fullmatch(self.path)
            path = folder / asked[2] if asked else None
            if path is None or not path.is_file():
                self._say(200 if self.path == "/v2/" else 404, {"Content-Length": "0"})
                return
            kind = _kind(path) if asked and asked[1] == "manifests" else "application/octet-stream"
            headers = {"Content-Type": kind, "Content-Length": str(path.stat().st_size)}
            self._say(200, {**headers, "Docker-Content-Digest": f"sha256:{path.name}"})
            if body:
                self._send(path)

        def _say(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, path: Path) -> None:
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(BUFFER):
                    self.wfile.write(chunk)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # the engine's memory

        def log_message(self, *_: Any) -> None:
            """Nothing of it is for people."""

    return Handler


def _kind(path: Path) -> str:
    """Return a manifest's media type: its own, or by what is in it."""
    data = json.loads(path.read_bytes())
    return str(data.get("mediaType") or (INDEX if "manifests" in data else MANIFEST))
