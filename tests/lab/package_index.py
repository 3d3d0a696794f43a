"""A package index on the lab's network: a directory of wheels, served to pip and to the Sparks."""

from __future__ import annotations

import hashlib
import html
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Index(ThreadingHTTPServer):
    """Serves the wheels in ``folder`` in the layout that pip expects; records which client fetched which."""

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__((address, 0), _Handler)
        self.folder = folder
        self.sent: list[tuple[str, str]] = []
        """Client address and name of each wheel that was downloaded."""
        self.corrupted: set[str] = set()
        """Names of wheels whose last byte is changed on the way."""

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_port}/simple/"

    def add(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def sent_to(self, address: str) -> list[str]:
        """Return the wheels that a client fetched, in order."""
        return [name for to, name in self.sent if to == address]


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def do_HEAD(self) -> None:
        self._respond(body=False)

    def do_GET(self) -> None:
        self._respond(body=True)

    def _respond(self, *, body: bool) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        content = self._page(rest) if kind == "simple" else self._wheel(rest, body=body)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if kind == "simple" else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _page(self, package: str) -> bytes | None:
        wheels = [path for path in sorted(self.server.folder.glob("*.whl")) if _package(path.name) == package]
        links = [
            f'<a href="/wheels/{html.escape(path.name)}#sha256={_sha256(path)}">{html.escape(path.name)}</a>'
            for path in wheels
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode() if links else None

    def _wheel(self, name: str, *, body: bool) -> bytes | None:
        path = self.server.folder / name
        if not path.is_file():
            return None
        if body:
            self.server.sent.append((self.client_address[0], name))
        content = path.read_bytes()
        return content[:-1] + b"!" if name in self.server.corrupted else content

    def log_message(self, *_: Any) -> None:
        return


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _package(wheel: str) -> str:
    return re.sub(r"[-_.]+", "-", wheel.split("-", maxsplit=1)[0]).lower()


@contextmanager
def serve(address: str, folder: Path) -> Iterator[Index]:
    """Serve a directory of wheels on an address of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    with Index(address, folder) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        try:
            yield index
        finally:
            index.shutdown()
