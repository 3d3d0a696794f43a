"""The common part of the stand-ins' HTTP interfaces: JSON, streams, and the modes that delay."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from .modes import Settings


class ApiHandler(BaseHTTPRequestHandler):
    """One request; a subclass responds in ``respond``."""

    protocol_version = "HTTP/1.1"
    json_type = "application/json"
    stream_type = "text/event-stream"

    def do_GET(self) -> None:
        """Respond to a request without a body."""
        self._receive()

    def do_POST(self) -> None:
        """Respond to a request with a body."""
        self._receive()

    def respond(self, path: str, body: bytes) -> None:
        """Respond to the request."""
        raise NotImplementedError

    def _receive(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.respond(self.path.partition("?")[0], body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send_json(self, data: Any, status: int = 200) -> None:
        """Send a JSON value."""
        self.send(json.dumps(data, separators=(",", ":")).encode(), self.json_type, status)

    def send(self, body: bytes, kind: str, status: int = 200) -> None:
        """Send a body of a content type."""
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_stream(self, chunks: Iterator[dict[str, Any]]) -> None:
        """Send server-sent events, and end the connection."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", self.stream_type)
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n")
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")


def delay(settings: Settings, number: int) -> None:
    """Wait before completion ``number`` if the mode is ``wedged`` or ``slow-second``."""
    if "wedged" in settings:
        time.sleep(10**8)
    if "slow-second" in settings and number == 2:  # noqa: PLR2004 - the mode's own name
        time.sleep(settings.value("slow-second", 0, 90))
