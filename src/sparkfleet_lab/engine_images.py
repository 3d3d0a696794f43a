"""Fills the lab's registry with engine images under their canonical names, stored in the registry's image.

Every name in the registry is a multi-arch index whose amd64 and arm64 entries are the same manifest: images
of the catalog are available for aarch64, and run on any machine.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab import images
from sparkfleet_lab.base import Base
from sparkfleet_lab.build import build, remove_old_images
from sparkfleet_lab.content import digest, tree
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import IMAGES
from sparkfleet_lab.standin_images import ImageContext, contexts

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_LABEL = "io.sparkfleet.lab.digests"
_CONFIG = (
    "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"
    "storage: {filesystem: {rootdirectory: /srv/registry}}\nhttp: {addr: '0.0.0.0:5000'}\n"
)


def registry_with_engines(
    docker: Docker, base: Base, report: Callable[[str], None]
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the image of a registry that holds all engine images, and each reference's digest there."""
    tag = f"{IMAGES}/registry-filled:{_key(base)}"
    found = docker.inspect("image", tag)
    if found is None:
        plain = build(docker, images.registry(base), base.apt, report, "the registry")
        _fill(docker, base, plain, tag, report)
        remove_old_images(docker, tag)
        found = docker.inspect("image", tag)
    if found is None:
        raise SparkfleetError(
            Diagnostic(
                tag, "the image is missing right after its creation", hint="run again", code="lab-failed"
            )
        )
    return tag, tuple(sorted(json.loads(found["Config"]["Labels"][_LABEL]).items()))


def push_index(registry: str, path: str, tag: str) -> str:
    """Turn ``path:tag`` (one manifest) into an index for amd64 and arm64; return the index's digest."""
    url = f"{registry}/v2/{path}/manifests/{tag}"
    manifest, _ = _http("GET", url, headers={"Accept": _MANIFEST})
    entry = {"mediaType": _MANIFEST, "size": len(manifest), "digest": _sha256(manifest)}
    platforms = [{"architecture": architecture, "os": "linux"} for architecture in ("amd64", "arm64")]
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [{**entry, "platform": platform} for platform in platforms],
        }
    ).encode()
    _http("PUT", url, index, {"Content-Type": _INDEX})
    return _sha256(index)


def repository_path(ref: str) -> tuple[str, str]:
    """Return path and tag of a reference: ``nvcr.io/nvidia/vllm:26.04`` -> ``nvidia/vllm`` and ``26.04``."""
    path, _, tag = ref.partition("/")[2].rpartition(":")
    return path, tag


def _key(base: Base) -> str:
    lab = Path(str(resources.files("sparkfleet_lab")))
    vllm = Path(str(resources.files("sparkfleet.engines.vllm")))
    llamacpp = Path(str(resources.files("sparkfleet.engines.llamacpp")))
    sources = (
        lab / "standin_images.py",
        lab / "engine_images.py",
        lab / "standins/package.py",
        vllm / "schema_archive.py",
    )
    return digest(
        base.id, images.registry(base).tag, importlib.metadata.version("huggingface_hub"),
        *(source.read_bytes() for source in sources),
        tree(lab / "standins/engine"), tree(vllm / "data"),
        tree(lab / "standins/llama_server"), tree(llamacpp / "data"),
    )  # fmt: skip


def _fill(docker: Docker, base: Base, plain: str, tag: str, report: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="sparkfleet-engines-") as scratch:
        (Path(scratch) / "registry.yml").write_text(_CONFIG)
        image_contexts = contexts(Path(scratch) / "contexts", base.image)
        container = docker.run(
            "create", "-p", "127.0.0.1::5000", plain, "docker-registry", "serve", "/etc/registry.yml"
        )
        try:
            docker.run("cp", f"{scratch}/registry.yml", f"{container}:/etc/registry.yml")
            docker.run("start", container)
            address = docker.run("port", container, "5000/tcp").splitlines()[0]
            _wait(f"http://{address}/v2/")
            pushed = {context.ref: _push(docker, context, address, report) for context in image_contexts}
            docker.run("stop", "-t", "5", container)
            digests = {ref: index for ref, (_, index) in pushed.items()}
            label = f"LABEL {_LABEL}={json.dumps(json.dumps(digests))}"
            docker.run("commit", "--change", label, container, tag)
            # Removed only now, so that shared layers are built once.
            docker.attempt("image", "rm", "-f", *(local for local, _ in pushed.values()))
        finally:
            docker.run("rm", "-f", "-v", container)


def _push(
    docker: Docker, context: ImageContext, address: str, report: Callable[[str], None]
) -> tuple[str, str]:
    """Return the image's local name and the digest of its index in the registry."""
    path, tag = repository_path(context.ref)
    report(f"building {context.ref} (stand-in for {context.engine} {context.vllm})")
    local = f"{address}/{path}:{tag}"
    docker.run("build", "-q", "-t", local, str(context.directory))
    docker.run("push", "-q", local)
    return local, push_index(f"http://{address}", path, tag)


def _wait(url: str) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            _http("GET", url)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def _http(
    method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[bytes, Any]:
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        return response.read(), response.headers


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
