"""Downloads images into an offline mirror's OCI image layout.

An image keeps the digest of its index, so it is the image of the lock file; of the platforms in the index
only linux/arm64 is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from sparkfleet.config.lock_data import LockedImage
from sparkfleet.lock import documents
from sparkfleet.lock.documents import Descriptor, LayoutEntry, LayoutIndex, Manifest
from sparkfleet.lock.errors import RegistryError
from sparkfleet.lock.registry import Content, Registry
from sparkfleet.offline import oci

NAME = "org.opencontainers.image.ref.name"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def download(path: Path, image: LockedImage, registry: Registry, log: Callable[[str], None]) -> None:
    """Download the missing blobs of an image. Raise RegistryError if one does not match its digest."""
    ref = image.image
    if index_entry(path, ref.pull_ref) is not None and not missing(path, image):
        return
    oci.blob_path(path, ref.digest).parent.mkdir(parents=True, exist_ok=True)
    top = _store(path, registry.manifest(ref.repository, ref.digest))
    arm64 = top if ref.digest == image.arm64 else _store(path, registry.manifest(ref.repository, image.arm64))
    blobs = arm64.parse(Manifest).blobs
    absent = [blob for blob in blobs if not oci.blob_path(path, blob.digest).exists()]
    total = sum(blob.size for blob in absent)
    log(f"{ref.display}: downloading {len(absent)} of {len(blobs)} layers, {total >> 20} MiB")
    for blob in absent:
        _download_blob(path, ref.repository, blob, registry)
    media_type = top.parse(Manifest).media_type or INDEX_TYPE
    _add_to_index(path, ref.pull_ref, {"mediaType": media_type, "digest": top.digest, "size": len(top.body)})


def missing(path: Path, image: LockedImage) -> list[str]:
    """Return the digests of the blobs of an image that the mirror lacks."""
    absent = [
        digest for digest in (image.image.digest, image.arm64) if not oci.blob_path(path, digest).exists()
    ]
    if absent:
        return absent
    manifest = documents.parse(Manifest, oci.blob_path(path, image.arm64).read_bytes(), image.arm64[:19])
    return [blob.digest for blob in manifest.blobs if not oci.blob_path(path, blob.digest).exists()]


def index_entry(path: Path, reference: str) -> LayoutEntry | None:
    """Return the entry of an image in the layout's index."""
    return next((one for one in _entries(path) if one.annotations.get(NAME) == reference), None)


def _entries(path: Path) -> tuple[LayoutEntry, ...]:
    index = oci.layout(path) / "index.json"
    if not index.exists():
        return ()
    try:
        return documents.parse(LayoutIndex, index.read_bytes(), str(index)).manifests
    except documents.DocumentError as error:
        raise RegistryError(str(error), f"remove {index} and run the command again") from None


def _add_to_index(path: Path, reference: str, entry: dict[str, str | int]) -> None:
    other_images = [
        one.model_dump(exclude_unset=True) for one in _entries(path) if one.annotations.get(NAME) != reference
    ]
    entries = [*other_images, {**entry, "annotations": {NAME: reference}}]
    data = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
    _write(oci.layout(path) / "index.json", json.dumps(data, indent=1).encode())
    _write(oci.layout(path) / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _store(path: Path, content: Content) -> Content:
    _write(oci.blob_path(path, content.digest), content.body)
    return content


def _write(path: Path, body: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(body)
    part.replace(path)


def _download_blob(path: Path, repository: str, blob: Descriptor, registry: Registry) -> None:
    """Download a blob; after a broken connection the download continues where it stopped."""
    final = oci.blob_path(path, blob.digest)
    part = final.with_name(f"{final.name}.part")
    while (before := oci.size_of(part)) < blob.size:
        try:
            _append(part, before, repository, blob.digest, registry)
        except RegistryError:
            if oci.size_of(part) <= before:
                raise  # no progress
        else:
            break
    with part.open("rb") as file:
        actual = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        os.fsync(file.fileno())
    if actual != blob.digest:
        part.unlink()
        raise RegistryError(
            f"{repository}: a layer does not match its digest {blob.digest[:19]} and was discarded",
            "run again; if it happens again, the registry or a proxy in between is faulty",
        )
    part.replace(final)


def _append(part: Path, offset: int, repository: str, digest: str, registry: Registry) -> None:
    with registry.stream(repository, digest, offset) as response:
        partial = response.status_code == 206  # noqa: PLR2004
        with part.open("ab" if partial else "wb") as file:
            for chunk in response.iter_raw():  # unbuffered: a broken connection loses nothing
                file.write(chunk)
