from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from sparkfleet_lab.engine_images import push_index, repository_path

MANIFEST = b'{"schemaVersion": 2, "layers": []}'


class _Registry(BaseHTTPRequestHandler):
    put: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(MANIFEST)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.put.append((self.path, self.headers["Content-Type"], body))
        self.send_response(201)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of a registry that has one manifest and keeps what is put."""
    with HTTPServer(("127.0.0.1", 0), _Registry) as server:
        _Registry.put.clear()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_index_names_one_manifest_for_both_architectures(registry: str) -> None:
    digest = push_index(registry, "nvidia/vllm", "26.04-py3")
    ((path, kind, body),) = _Registry.put
    assert path == "/v2/nvidia/vllm/manifests/26.04-py3"
    assert kind == "application/vnd.docker.distribution.manifest.list.v2+json"
    assert digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
    entries = json.loads(body)["manifests"]
    assert {entry["platform"]["architecture"] for entry in entries} == {"amd64", "arm64"}
    assert {entry["digest"] for entry in entries} == {f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"}
    assert {entry["size"] for entry in entries} == {len(MANIFEST)}


def test_the_path_in_the_labs_registry_is_the_reference_without_its_registry() -> None:
    assert repository_path("docker.io/vllm/vllm-openai:v0.25.1") == ("vllm/vllm-openai", "v0.25.1")
