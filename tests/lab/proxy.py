"""A proxy in front of the lab's registry or hub, which refuses or delays requests on demand."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

RELAYED = (
    "content-type",
    "docker-content-digest",
    "etag",
    "x-error-code",
    "x-error-message",
    "x-repo-commit",
)
"""Response headers that clients read."""
FORWARDED = ("accept", "authorization")


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the real one."""

    status: int = 0
    """0: none at all; the request hangs until the proxy is closed."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Proxy:
    """A proxy between the operator and one server; tests change it while it is open."""

    url: str
    refused: dict[str, Refusal] = field(default_factory=dict)
    """Regular expression, searched in the request's path -> the response."""
    on_request: Callable[[], object] = lambda: None
    """Called for every request before it goes on."""
    closed: threading.Event = field(default_factory=threading.Event)

    def refusal(self, path: str) -> Refusal | None:
        return next((what for expression, what in self.refused.items() if re.search(expression, path)), None)


@contextmanager
def proxy_to(url: str, trust: ssl.SSLContext | bool = True) -> Iterator[Proxy]:
    """Start a proxy on a local port for this server."""
    with httpx.Client(base_url=url, verify=trust, timeout=30) as client:

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.on_request()
                refusal = proxy.refusal(self.path)
                if refusal is None:
                    forwarded = {name: self.headers[name] for name in FORWARDED if name in self.headers}
                    real = client.get(self.path, headers=forwarded)
                    relayed = {name: real.headers[name] for name in RELAYED if name in real.headers}
                    self._respond(real.status_code, relayed, real.content)
                elif refusal.status:
                    self._respond(refusal.status, refusal.headers, b"{}")
                else:
                    proxy.closed.wait()

            def _respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.closed.set()
            server.shutdown()
            thread.join()
            server.server_close()
