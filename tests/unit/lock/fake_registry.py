"""A registry on a local port: the protocol's real answers, challenges and faults."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@dataclass
class FakeRegistry:
    """Content and behaviour, changed while it runs."""

    url: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Path below /v2/ -> body: manifests by tag and digest, configs by digest."""
    types: dict[str, str] = field(default_factory=dict)
    auth: str = ""
    """"": none; "bearer", "basic"."""
    users: dict[str, str] = field(default_factory=dict)
    refresh_token: str = ""
    anonymous: bool = True
    """Whether a token is given without credentials."""
    token_status: int = 0
    """Answer of the token's address instead of a token."""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    corrupt: str = ""
    """Kind of what comes with another content: ``manifests`` or ``blobs``."""
    hang: threading.Event | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Path and Authorization of each request."""

    def put(self, name: str, reference: str, data: dict[str, Any], kind: str = MANIFEST) -> str:
        body = json.dumps(data).encode()
        digest = digest_of(body)
        folder = "blobs" if kind == CONFIG else "manifests"
        for key in (reference, digest):
            if key:
                self.blobs[f"{name}/{folder}/{key}"] = body
                self.types[f"{name}/{folder}/{key}"] = kind
        return digest

    def image(
        self,
        name: str,
        tag: str,
        systems: Any = ("linux/amd64", "linux/arm64"),
        *,
        version: str = "0.19.0",
        **settings: Any,
    ) -> tuple[str, dict[str, str]]:
        """Put a multi-arch image; return the index digest, and the manifests' by system."""
        manifests = {}
        entries = []
        for system in systems:
            os_, _, architecture = system.partition("/")
            config = {
                "architecture": architecture,
                "os": os_,
                "created": "2026-05-01T10:11:12.123456789Z",
                "config": {
                    "Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"],
                    "Env": ["PATH=/usr/bin", f"VLLM_VERSION={version}", "PROMPT=\x1b[1m$"],
                    **settings,
                },
            }
            config_digest = self.put(name, "", config, CONFIG)
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": config_digest, "size": 100},
                "layers": [
                    {"digest": "sha256:" + "1" * 64, "size": 1000},
                    {"digest": "sha256:" + "2" * 64, "size": 23},
                ],
            }
            manifests[system] = self.put(name, "", manifest)
            entries.append(
                {
                    "digest": manifests[system],
                    "platform": {"os": os_, "architecture": architecture},
                    "size": 1,
                }
            )
        entries.append(
            {"digest": "sha256:" + "f" * 64, "platform": {"os": "unknown", "architecture": "unknown"}}
        )
        index = self.put(name, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)
        return index, manifests


@contextmanager
def serving() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            response(self, registry)

        def do_POST(self) -> None:
            response(self, registry)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        if registry.hang:
            registry.hang.set()
        server.shutdown()
        thread.join()
        server.server_close()


def response(request: BaseHTTPRequestHandler, registry: FakeRegistry) -> None:
    url = urlsplit(request.path)
    authorization = request.headers.get("Authorization", "")
    registry.seen.append((url.path, authorization))
    if registry.hang:
        registry.hang.wait()
        request.close_connection = True
        return
    if url.path == "/token" and registry.token_status:
        send(request, registry.token_status, b"<html>", registry.headers)
        return
    if url.path == "/token":
        send(request, *token(request, registry, authorization, parse_qs(url.query)))
        return
    if registry.status:
        send(request, registry.status, b"{}", registry.headers)
        return
    challenge = challenged(registry, authorization)
    if challenge:
        send(request, 401, b"{}", {"WWW-Authenticate": challenge})
        return
    path = url.path.removeprefix("/v2/")
    body = registry.blobs.get(path)
    if body is None:
        send(request, 404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', {})
        return
    digest = digest_of(body)
    if registry.corrupt and f"/{registry.corrupt}/" in path:
        body = body[:-1] + b" }"
    send(request, 200, body, {"Docker-Content-Digest": digest, "Content-Type": registry.types[path]})


def challenged(registry: FakeRegistry, authorization: str) -> str:
    if registry.auth == "bearer" and authorization not in ("Bearer anonymous", "Bearer known"):
        return f'Bearer realm="{registry.url}/token",service="fake",scope="repository:x:pull"'
    if registry.auth == "basic" and user_of(authorization, registry) is None:
        return 'Basic realm="fake"'
    return ""


def user_of(authorization: str, registry: FakeRegistry) -> str | None:
    if not authorization.startswith("Basic "):
        return None
    user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    return user if registry.users.get(user) == password else None


def token(
    request: Any, registry: FakeRegistry, authorization: str, query: Any
) -> tuple[int, bytes, dict[str, str]]:
    if request.command == "POST":
        form = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        known = form["refresh_token"] == [registry.refresh_token] and form["grant_type"] == ["refresh_token"]
        return (200, b'{"access_token": "known"}', {}) if known else (401, b"{}", {})
    assert query["service"] == ["fake"]
    if authorization:
        return (200, b'{"token": "known"}', {}) if user_of(authorization, registry) else (401, b"{}", {})
    return (200, b'{"token": "anonymous"}', {}) if registry.anonymous else (401, b"{}", {})


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
