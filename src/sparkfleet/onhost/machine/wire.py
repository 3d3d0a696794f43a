"""How Sparks of a cluster speak: one line of JSON there, one line of JSON back, over TCP on the fabric."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any

LONGEST = 64 * 1024
"""Bytes of a line; a longer one is nobody's we know."""
PATIENCE_S = 5.0
"""Seconds that one question may keep a line open."""

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True  # the one before may have ended a second ago
    daemon_threads = True


def listen(address: str, port: int, answer: Answer) -> Callable[[], None]:
    """Answer questions in the background; return what ends that. Raise OSError for an address not here."""

    class Handler(socketserver.StreamRequestHandler):
        timeout = PATIENCE_S

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # who asked has gone: it asks again
                question = _read(self.rfile.readline(LONGEST))
                if question is not None:
                    self.wfile.write(json.dumps(answer(question)).encode() + b"\n")

    server = _Server((address, port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


def ask(address: str, port: int, message: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
    """Return the answer; None: nobody there, too late, or not understood."""
    try:
        with socket.create_connection((address, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile("rb") as stream:
                return _read(stream.readline(LONGEST))
    except OSError:
        return None


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
