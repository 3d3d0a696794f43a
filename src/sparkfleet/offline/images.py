"""Images of a bundle: an OCI layout, every content under the hash that it has.

An image keeps the digest of its index, so that it is the very image of the lock file; of the platforms that
the index names only linux/arm64 is there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.errors import Problem
from sparkfleet.lock.registry import Content, Registry, RegistryError
from sparkfleet.spec.locked import LockedImage
from sparkfleet.spec.resolved import ImageRef

NAME = "org.opencontainers.image.ref.name"
OF_INDEX = "application/vnd.oci.image.index.v1+json"


def layout(path: Path) -> Path:
    """Return the directory of a bundle's images."""
    return path / "images"


def place(path: Path, digest: str) -> Path:
    """Return where a content lies."""
    return layout(path) / "blobs" / "sha256" / digest.removeprefix("sha256:")


def bring(path: Path, image: LockedImage, registry: Registry, tell: Callable[[str], None]) -> None:
    """Bring what is missing of an image. Raise RegistryError if a content does not come as it should."""
    ref = image.image
    if described(path, ref.pull_ref) is not None and not missing(path, image):
        return
    place(path, ref.digest).parent.mkdir(parents=True, exist_ok=True)
    top = _keep(path, registry.manifest(ref.repository, ref.digest))
    manifest = (
        top if ref.digest == image.arm64 else _keep(path, registry.manifest(ref.repository, image.arm64))
    )
    parts = _parts(manifest.data)
    absent = [part for part in parts if not place(path, part["digest"]).exists()]
    total = sum(int(part.get("size", 0)) for part in absent)
    tell(f"{ref.display}: {len(absent)} of {len(parts)} layers, {total >> 20} MiB to download")
    for part in absent:
        _download(path, ref.repository, part, registry)
    _enter(path, ref.pull_ref, {"mediaType": top.data.get("mediaType", OF_INDEX), "digest": top.digest,
                                "size": len(top.body)})  # fmt: skip


def missing(path: Path, image: LockedImage) -> list[str]:
    """Return the digests of what a bundle lacks of an image."""
    tops = [image.image.digest, image.arm64]
    absent = [digest for digest in tops if not place(path, digest).exists()]
    if absent:
        return absent
    parts = _parts(json.loads(place(path, image.arm64).read_bytes()))
    return [part["digest"] for part in parts if not place(path, part["digest"]).exists()]


@dataclass(frozen=True)
class Part:
    """A content of an image: its digest, and bytes."""

    digest: str
    size: int


def chain(path: Path, digest: str) -> tuple[Part, ...]:
    """Return the manifests of an image from its digest down to the one for linux/arm64.

    Raise LookupError for one that is not there, or is another: each is read by the hash that names it.
    """
    part, data = _manifest(path, digest)
    if "manifests" not in data:
        return (part,)
    for entry in data["manifests"]:
        platform = entry.get("platform") or {}
        system = f"{platform.get('os')}/{platform.get('architecture')}"
        if system == "linux/arm64" and platform.get("variant", "v8") == "v8":
            return (part, _manifest(path, entry["digest"])[0])
    raise LookupError(f"{digest[:19]} names no linux/arm64")


def parts(path: Path, digest: str) -> tuple[Part, ...]:
    """Return every content of an image, manifests first, each once. Raise LookupError as ``chain`` does."""
    manifests = chain(path, digest)
    _, data = _manifest(path, manifests[-1].digest)
    return (*manifests, *(Part(one["digest"], int(one["size"])) for one in _parts(data)))


def _manifest(path: Path, digest: str) -> tuple[Part, dict[str, Any]]:
    try:
        body = place(path, digest).read_bytes()
    except OSError:
        raise LookupError(f"{digest[:19]} is not there") from None
    if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
        raise LookupError(f"{digest[:19]} has another content")
    return Part(digest, len(body)), json.loads(body)


def lack(where: str, bundle: Path, image: ImageRef, *, manifests_alone: bool = False) -> Problem | None:
    """Return what a bundle lacks of an image, or of what gives a copy of it its digest; None: nothing."""
    try:
        wanted = chain(bundle, image.digest) if manifests_alone else parts(bundle, image.digest)
        absent = [one.digest[:19] for one in wanted if _size(place(bundle, one.digest)) != one.size]
        found = f"lacks {len(absent)} of {len(wanted)} layers: {', '.join(absent[:3])}" if absent else ""
    except LookupError as error:
        found = f"lacks the image: {error}"
    if not found:
        return None
    return Problem(
        f"{where}: {image.display}",
        f"the bundle {bundle} {found}",
        "a bundle of this very lock file",
        f"where the registry can be reached: sparkfleet bundle INVENTORY {bundle}",
    )


def described(path: Path, reference: str) -> dict[str, Any] | None:
    """Return the entry of an image in the layout's index."""
    found = (one for one in _entries(path) if (one.get("annotations") or {}).get(NAME) == reference)
    return next(found, None)


def _entries(path: Path) -> list[dict[str, Any]]:
    index = layout(path) / "index.json"
    return list(json.loads(index.read_text(encoding="utf-8"))["manifests"]) if index.exists() else []


def _enter(path: Path, reference: str, entry: dict[str, Any]) -> None:
    others = [one for one in _entries(path) if (one.get("annotations") or {}).get(NAME) != reference]
    entries = [*others, {**entry, "annotations": {NAME: reference}}]
    data = {"schemaVersion": 2, "mediaType": OF_INDEX, "manifests": entries}
    _write(layout(path) / "index.json", json.dumps(data, indent=1).encode())
    _write(layout(path) / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _parts(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [manifest["config"], *manifest["layers"]]
    return list({part["digest"]: part for part in parts}.values())


def _keep(path: Path, content: Content) -> Content:
    _write(place(path, content.digest), content.body)
    return content


def _write(path: Path, body: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(body)
    part.replace(path)


def _download(path: Path, repository: str, wanted: dict[str, Any], registry: Registry) -> None:
    """Bring one content; a connection that breaks is made anew, and goes on where it broke."""
    digest = str(wanted["digest"])
    final = place(path, digest)
    part = final.with_name(f"{final.name}.part")
    while (before := _size(part)) < int(wanted["size"]):
        try:
            _append(part, before, repository, digest, registry)
        except RegistryError:
            if _size(part) <= before:
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


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(part: Path, offset: int, repository: str, digest: str, registry: Registry) -> None:
    with registry.stream(repository, digest, offset) as response:
        goes_on = response.status_code == 206  # noqa: PLR2004  (partial content)
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in response.iter_raw():  # as it comes: a cut loses nothing
                file.write(chunk)
