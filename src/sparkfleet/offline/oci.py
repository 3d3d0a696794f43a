"""The images of an offline mirror: an OCI layout, read by the hashes that name its contents."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.config.resolved import ImageRef
from sparkfleet.contract.diagnostic import Diagnostic


def layout(path: Path) -> Path:
    """Return the directory of an offline mirror's images."""
    return path / "images"


def place(path: Path, digest: str) -> Path:
    """Return where a content lies."""
    return layout(path) / "blobs" / "sha256" / digest.removeprefix("sha256:")


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
    return (*manifests, *(Part(one["digest"], int(one["size"])) for one in contents(data)))


def _manifest(path: Path, digest: str) -> tuple[Part, dict[str, Any]]:
    try:
        body = place(path, digest).read_bytes()
    except OSError:
        raise LookupError(f"{digest[:19]} is not there") from None
    if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
        raise LookupError(f"{digest[:19]} has another content")
    return Part(digest, len(body)), json.loads(body)


def lack(where: str, mirror: Path, image: ImageRef, *, manifests_alone: bool = False) -> Diagnostic | None:
    """Return what a mirror lacks of an image, or of the manifests alone; None when it has everything."""
    try:
        wanted = chain(mirror, image.digest) if manifests_alone else parts(mirror, image.digest)
        absent = [one.digest[:19] for one in wanted if size_of(place(mirror, one.digest)) != one.size]
        found = f"lacks {len(absent)} of {len(wanted)} layers: {', '.join(absent[:3])}" if absent else ""
    except LookupError as error:
        found = f"lacks the image: {error}"
    if not found:
        return None
    return Diagnostic(
        f"{where}: {image.display}",
        f"the offline mirror {mirror} {found}",
        "an offline mirror of this very lock file",
        f"where the registry can be reached: sparkfleet mirror INVENTORY {mirror}",
        code="mirror-incomplete",
    )


def contents(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a manifest names, each once: configuration and layers."""
    parts = [manifest["config"], *manifest["layers"]]
    return list({part["digest"]: part for part in parts}.values())


def size_of(path: Path) -> int:
    """Return a file's bytes; 0 when it is not there."""
    return path.stat().st_size if path.exists() else 0
