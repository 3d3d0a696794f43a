"""Images of an offline mirror: an OCI layout, every content under the hash that it has.

An image keeps the digest of its index, so that it is the very image of the lock file; of the platforms that
the index names only linux/arm64 is there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparkfleet.config.locked import LockedImage
from sparkfleet.lock.registry import Content, Registry, RegistryError
from sparkfleet.offline import oci

NAME = "org.opencontainers.image.ref.name"
OF_INDEX = "application/vnd.oci.image.index.v1+json"


def bring(path: Path, image: LockedImage, registry: Registry, tell: Callable[[str], None]) -> None:
    """Bring what is missing of an image. Raise RegistryError if a content does not come as it should."""
    ref = image.image
    if described(path, ref.pull_ref) is not None and not missing(path, image):
        return
    oci.place(path, ref.digest).parent.mkdir(parents=True, exist_ok=True)
    top = _keep(path, registry.manifest(ref.repository, ref.digest))
    manifest = (
        top if ref.digest == image.arm64 else _keep(path, registry.manifest(ref.repository, image.arm64))
    )
    parts = oci.contents(manifest.data)
    absent = [part for part in parts if not oci.place(path, part["digest"]).exists()]
    total = sum(int(part.get("size", 0)) for part in absent)
    tell(f"{ref.display}: {len(absent)} of {len(parts)} layers, {total >> 20} MiB to download")
    for part in absent:
        _download(path, ref.repository, part, registry)
    _enter(path, ref.pull_ref, {"mediaType": top.data.get("mediaType", OF_INDEX), "digest": top.digest,
                                "size": len(top.body)})  # fmt: skip


def missing(path: Path, image: LockedImage) -> list[str]:
    """Return the digests of what an offline mirror lacks of an image."""
    tops = [image.image.digest, image.arm64]
    absent = [digest for digest in tops if not oci.place(path, digest).exists()]
    if absent:
        return absent
    parts = oci.contents(json.loads(oci.place(path, image.arm64).read_bytes()))
    return [part["digest"] for part in parts if not oci.place(path, part["digest"]).exists()]


def described(path: Path, reference: str) -> dict[str, Any] | None:
    """Return the entry of an image in the layout's index."""
    found = (one for one in _entries(path) if (one.get("annotations") or {}).get(NAME) == reference)
    return next(found, None)


def _entries(path: Path) -> list[dict[str, Any]]:
    index = oci.layout(path) / "index.json"
    return list(json.loads(index.read_text(encoding="utf-8"))["manifests"]) if index.exists() else []


def _enter(path: Path, reference: str, entry: dict[str, Any]) -> None:
    others = [one for one in _entries(path) if (one.get("annotations") or {}).get(NAME) != reference]
    entries = [*others, {**entry, "annotations": {NAME: reference}}]
    data = {"schemaVersion": 2, "mediaType": OF_INDEX, "manifests": entries}
    _write(oci.layout(path) / "index.json", json.dumps(data, indent=1).encode())
    _write(oci.layout(path) / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _keep(path: Path, content: Content) -> Content:
    _write(oci.place(path, content.digest), content.body)
    return content


def _write(path: Path, body: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(body)
    part.replace(path)


def _download(path: Path, repository: str, wanted: dict[str, Any], registry: Registry) -> None:
    """Bring one content; a connection that breaks is made anew, and goes on where it broke."""
    digest = str(wanted["digest"])
    final = oci.place(path, digest)
    part = final.with_name(f"{final.name}.part")
    while (before := oci.size_of(part)) < int(wanted["size"]):
        try:
            _append(part, before, repository, digest, registry)
        except RegistryError:
            if oci.size_of(part) <= before:
                raise  # not a byte came
        else:
            break
    with part.open("rb") as file:
        real = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        os.fsync(file.fileno())
    if real != digest:
        part.unlink()
        raise RegistryError(
            f"{repository}: a layer came with another content than {digest[:19]}: it is not kept",
            "run again; if it stays, the registry or a proxy before it is broken",
        )
    part.replace(final)


def _append(part: Path, offset: int, repository: str, digest: str, registry: Registry) -> None:
    with registry.stream(repository, digest, offset) as response:
        goes_on = response.status_code == 206  # noqa: PLR2004  (partial content)
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in response.iter_raw():  # as it comes: a cut loses nothing
                file.write(chunk)
