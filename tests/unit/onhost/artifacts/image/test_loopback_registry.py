"""The registry on a Spark's loopback serves what dockerd requests, with the password alone."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.onhost.artifacts.image import image_refs, loopback_registry
from sparkfleet.onhost.artifacts.image.loopback_registry import LoopbackRegistry

INDEX = json.dumps({"manifests": []}).encode()
OLD = json.dumps({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}).encode()
LAYER = b"layer" * 400_000


def hex_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LoopbackRegistry]:
    folder = tmp_path / "contents"
    folder.mkdir()
    for body in (INDEX, OLD, LAYER):
        loopback_registry.content_path(folder, f"sha256:{hex_of(body)}").write_bytes(body)
    (tmp_path / "secret").write_text("not in the directory")
    with loopback_registry.serve(folder) as registry:
        yield registry


def ask(
    registry: LoopbackRegistry, path: str, *, method: str = "GET", password: str | None = None
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(image_refs.LOOPBACK, registry.port, timeout=10)
    pair = f"{image_refs.USER}:{registry.password if password is None else password}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"} if password != "" else {}
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    kind, body = response.headers.get("Content-Type", ""), response.read()
    connection.close()
    return response.status, kind, body


def test_a_request_without_the_right_password_gets_nothing(registry: LoopbackRegistry) -> None:
    for password in ("", "guessed"):
        for path in ("/v2/", f"/v2/a/b/blobs/sha256:{hex_of(LAYER)}"):
            status, _, body = ask(registry, path, password=password)
            assert (status, body) == (401, b"")


def test_contents_are_served_by_digest_and_manifests_with_their_type(registry: LoopbackRegistry) -> None:
    assert ask(registry, "/v2/")[0] == 200
    assert ask(registry, f"/v2/a/b/blobs/sha256:{hex_of(LAYER)}") == (200, "application/octet-stream", LAYER)
    assert ask(registry, f"/v2/a/b/manifests/sha256:{hex_of(INDEX)}") == (200, loopback_registry.INDEX, INDEX)
    assert ask(registry, f"/v2/a/b/manifests/sha256:{hex_of(OLD)}")[1] == json.loads(OLD)["mediaType"]
    assert ask(registry, f"/v2/a/b/manifests/sha256:{hex_of(INDEX)}", method="HEAD") == (
        200, loopback_registry.INDEX, b"",
    )  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/v2/a/blobs/sha256:" + "0" * 64, "/v2/a/blobs/../../secret", "/v2/a/manifests/latest", "/secret", "/"],
)
def test_nothing_else_is_served(registry: LoopbackRegistry, path: str) -> None:
    assert ask(registry, path)[0] == 404


def test_it_stops_listening_and_uses_another_port_if_its_own_is_taken(tmp_path: Path) -> None:
    with loopback_registry.serve(tmp_path) as one, loopback_registry.serve(tmp_path) as other:
        assert one.port != other.port
        assert ask(other, "/v2/")[0] == 200
    for registry in (one, other):
        with pytest.raises(OSError):  # noqa: PT011  (refused, in the system's own words)
            socket.create_connection((image_refs.LOOPBACK, registry.port), 5)


def test_the_name_of_an_image_has_its_original_name_and_digest() -> None:
    registry = LoopbackRegistry(7355, "secret")
    digest = "sha256:" + "c" * 64
    assert registry.name(f"docker.io/vllm/vllm-openai@{digest}") == (
        f"127.0.0.1:7355/sparkfleet/docker.io/vllm/vllm-openai@{digest}"
    )
    assert registry.name(f"registry:5000/a@{digest}") == f"127.0.0.1:7355/sparkfleet/registry-5000/a@{digest}"
    assert image_refs.plain(registry.name(f"nvcr.io/a/b@{digest}")) == f"nvcr.io/a/b@{digest}"
    assert image_refs.plain("127.0.0.1:5000/theirs/a:1") == "127.0.0.1:5000/theirs/a:1"
    assert (registry.credential.password, registry.credential.server) == ("secret", "127.0.0.1:7355")
    assert "secret" not in repr(registry)


def test_a_client_that_tries_tls_first_is_answered_like_http(registry: LoopbackRegistry) -> None:
    """Go's HTTP client reports the first bytes of the answer; containerd goes on without TLS for `HTTP/`."""
    with socket.create_connection(("127.0.0.1", registry.port), timeout=20) as connection:
        context = ssl.create_default_context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        connection.sendall(outgoing.read())
        assert connection.recv(64).startswith(b"HTTP/1.0 400")
