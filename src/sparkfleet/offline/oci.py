"""Images of an offline mirror: an OCI image layout, every blob named by its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.stage import Content
from sparkfleet.desired_state import ImageRef
from sparkfleet.lock import documents
from sparkfleet.lock.documents import Manifest


def layout(path: Path) -> Path:
    """Return the directory of a mirror's images."""
    return path / "images"


def blob_path(path: Path, digest: str) -> Path:
    """Return the path of a blob in the mirror."""
    return layout(path) / "blobs" / "sha256" / digest.removeprefix("sha256:")


def chain(path: Path, digest: str) -> tuple[Content, ...]:
    """Return the manifests of an image, from its digest down to the manifest for linux/arm64.

    Raise LookupError if one is missing or does not match its digest.
    """
    part, manifest = _manifest(path, digest)
    if manifest.manifests is None:
        return (part,)
    arm64 = next((entry for entry in manifest.manifests if entry.is_arm64), None)
    if arm64 is None:
        raise LookupError(f"{digest[:19]} has no manifest for linux/arm64")
    return (part, _manifest(path, arm64.digest)[0])


def parts(path: Path, digest: str) -> tuple[Content, ...]:
    """Return every blob of an image once, manifests first. Raise LookupError as ``chain`` does."""
    manifests = chain(path, digest)
    _, manifest = _manifest(path, manifests[-1].digest)
    return (*manifests, *(Content(one.digest, one.size) for one in manifest.blobs))


def _manifest(path: Path, digest: str) -> tuple[Content, Manifest]:
    try:
        body = blob_path(path, digest).read_bytes()
    except OSError:
        raise LookupError(f"{digest[:19]} is missing") from None
    if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
        raise LookupError(f"{digest[:19]} does not match its digest")
    try:
        return Content(digest, len(body)), documents.parse(Manifest, body, digest[:19])
    except documents.DocumentError as error:
        raise LookupError(str(error)) from None


def lack(where: str, mirror: Path, image: ImageRef, *, manifests_alone: bool = False) -> Diagnostic | None:
    """Return what a mirror lacks of an image, or of its manifests alone; None when it is complete."""
    try:
        required = chain(mirror, image.digest) if manifests_alone else parts(mirror, image.digest)
        absent = [one.digest[:19] for one in required if size_of(blob_path(mirror, one.digest)) != one.size]
        gap = f"lacks {len(absent)} of {len(required)} layers: {', '.join(absent[:3])}" if absent else ""
    except LookupError as error:
        gap = f"lacks the image: {error}"
    if not gap:
        return None
    return Diagnostic(
        f"{where}: {image.display}",
        f"the offline mirror {mirror} {gap}",
        "an offline mirror of the current lock file",
        f"run where the registry can be reached: sparkfleet mirror INVENTORY {mirror}",
        code="mirror-incomplete",
    )


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0
