"""Messages between Sparks of a cluster: a line of JSON for request and response, over TCP on the fabric."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any

from sparkfleet.onhost.machine import deadline

LONGEST = 64 * 1024
"""Bytes of a line; a longer one is refused."""
PATIENCE_S = 5.0
"""Seconds that one request may keep a connection open, from its first byte to its last."""

Responder = Callable[[dict[str, Any]], dict[str, Any]]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True  # the one before may have ended a second ago
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, with a deadline."""
        connection, address = super().get_request()
        return deadline.with_deadline(connection, time.monotonic() + PATIENCE_S), address


def listen(address: str, port: int, respond: Responder) -> Callable[[], None]:
    """Serve requests in the background; return what stops it. Raise OSError for a foreign address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the client hung up: it asks again
                question = _read(self.rfile.readline(LONGEST))
                if question is not None:
                    self.wfile.write(json.dumps(respond(question)).encode() + b"\n")

    server = _Server((address, port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


def ask(address: str, port: int, message: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
    """Return the response; None: not reachable, not complete within ``timeout_s``, or not valid."""
    try:
        with deadline.connected(address, port, timeout_s) as connection:
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile("rb") as stream:
                return _read(stream.readline(LONGEST))
    except OSError:
        return None


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
