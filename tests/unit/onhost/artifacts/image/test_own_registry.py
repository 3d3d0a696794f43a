"""The registry on a Spark's loopback: what dockerd asks of one, for who knows the password alone."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.onhost import main
from sparkfleet.onhost.artifacts.image import image_refs, own_registry
from sparkfleet.onhost.artifacts.image.own_registry import Opened
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine

INDEX = json.dumps({"manifests": []}).encode()
OLD = json.dumps({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}).encode()
LAYER = b"layer" * 400_000


def hex_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    folder = tmp_path / "contents"
    folder.mkdir()
    for body in (INDEX, OLD, LAYER):
        own_registry.place(folder, f"sha256:{hex_of(body)}").write_bytes(body)
    (tmp_path / "secret").write_text("not in the directory")
    with own_registry.of(folder) as registry:
        yield registry


def ask(
    registry: Opened, path: str, *, method: str = "GET", password: str | None = None
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(image_refs.HOME, registry.port, timeout=10)
    pair = f"{image_refs.USER}:{registry.password if password is None else password}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"} if password != "" else {}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    kind, body = answer.headers.get("Content-Type", ""), answer.read()
    connection.close()
    return answer.status, kind, body


def test_who_has_no_password_or_a_wrong_one_gets_nothing(opened: Opened) -> None:
    for password in ("", "guessed"):
        for path in ("/v2/", f"/v2/a/b/blobs/sha256:{hex_of(LAYER)}"):
            status, _, body = ask(opened, path, password=password)
            assert (status, body) == (401, b"")


def test_contents_are_given_by_their_digest_and_manifests_with_their_type(opened: Opened) -> None:
    assert ask(opened, "/v2/")[0] == 200
    assert ask(opened, f"/v2/a/b/blobs/sha256:{hex_of(LAYER)}") == (200, "application/octet-stream", LAYER)
    assert ask(opened, f"/v2/a/b/manifests/sha256:{hex_of(INDEX)}") == (200, own_registry.INDEX, INDEX)
    assert ask(opened, f"/v2/a/b/manifests/sha256:{hex_of(OLD)}")[1] == json.loads(OLD)["mediaType"]
    assert ask(opened, f"/v2/a/b/manifests/sha256:{hex_of(INDEX)}", method="HEAD") == (
        200, own_registry.INDEX, b"",
    )  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/v2/a/blobs/sha256:" + "0" * 64, "/v2/a/blobs/../../secret", "/v2/a/manifests/latest", "/secret", "/"],
)
def test_nothing_else_is_to_be_had(opened: Opened, path: str) -> None:
    assert ask(opened, path)[0] == 404


def test_nothing_listens_afterwards_and_a_taken_port_is_no_hindrance(tmp_path: Path) -> None:
    with own_registry.of(tmp_path) as one, own_registry.of(tmp_path) as other:
        assert one.port != other.port
        assert ask(other, "/v2/")[0] == 200
    for registry in (one, other):
        with pytest.raises(OSError):  # noqa: PT011  (refused, in the system's own words)
            socket.create_connection((image_refs.HOME, registry.port), 5)


def test_the_name_that_an_image_gets_tells_its_own_and_keeps_its_digest() -> None:
    registry = Opened(7355, "secret")
    digest = "sha256:" + "c" * 64
    assert registry.name(f"docker.io/vllm/vllm-openai@{digest}") == (
        f"127.0.0.1:7355/sparkfleet/docker.io/vllm/vllm-openai@{digest}"
    )
    assert registry.name(f"registry:5000/a@{digest}") == f"127.0.0.1:7355/sparkfleet/registry-5000/a@{digest}"
    assert image_refs.plain(registry.name(f"nvcr.io/a/b@{digest}")) == f"nvcr.io/a/b@{digest}"
    assert image_refs.plain("127.0.0.1:5000/theirs/a:1") == "127.0.0.1:5000/theirs/a:1"
    assert json.loads(base64.urlsafe_b64decode(registry.auth))["password"] == "secret"
    assert "secret" not in repr(registry)


def test_a_spark_says_under_which_name_an_image_is_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DockerEngine, "name_of", lambda _, reference: f"127.0.0.1:7355/{reference}")
    assert main.main(["image-name", "a@sha256:1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "127.0.0.1:7355/a@sha256:1"}
