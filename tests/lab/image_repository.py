"""Images of a few hundred bytes, pushed into the lab's registry over its HTTP API, for tests of pinning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sparkfleet_lab import services
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab

REPOSITORY = "vllm/vllm-openai"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class ImageRepository:
    """The repository ``docker.io/vllm/vllm-openai`` of the lab; images are pushed under additional tags."""

    lab: Lab
    client: httpx.Client

    def push(self, tag: str, vllm: str, architectures: Sequence[str] = ("amd64", "arm64")) -> str:
        """Push an index under a tag, replacing what it had; return the index's digest."""
        entries = []
        for architecture in architectures:
            config = self._blob(tag, vllm, architecture)
            manifest = _text({"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": []})
            digest = self._manifest(_digest(manifest), manifest, _MANIFEST)
            platform = {"os": "linux", "architecture": architecture}
            entries.append(
                {"mediaType": _MANIFEST, "size": len(manifest), "digest": digest, "platform": platform}
            )
        index = _text({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries})
        return self._manifest(tag, index, _INDEX)

    def corrupt(self, digest: str) -> None:
        """Change a manifest on the registry's disk, so that it no longer matches its digest."""
        algorithm, _, value = digest.partition(":")
        path = f"/srv/registry/docker/registry/v2/blobs/{algorithm}/{value[:2]}/{value}/data"
        container = self.lab.container(services.REGISTRY)
        Docker().run("exec", container, "sed", "-i", "s/linux/Linux/", path)

    def _blob(self, tag: str, vllm: str, architecture: str) -> dict[str, Any]:
        settings = {"Entrypoint": ["vllm", "serve"], "Env": [f"VLLM_VERSION={vllm}"], "Labels": {"tag": tag}}
        body = _text({"os": "linux", "architecture": architecture, "config": settings})
        location = self.client.post(f"/v2/{REPOSITORY}/blobs/uploads/").raise_for_status().headers["location"]
        url = httpx.URL(location).copy_merge_params({"digest": _digest(body)})
        self.client.put(url.raw_path.decode(), content=body).raise_for_status()
        return {"mediaType": _CONFIG, "size": len(body), "digest": _digest(body)}

    def _manifest(self, reference: str, body: bytes, kind: str) -> str:
        url = f"/v2/{REPOSITORY}/manifests/{reference}"
        self.client.put(url, content=body, headers={"content-type": kind}).raise_for_status()
        return _digest(body)


def _text(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode()


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
