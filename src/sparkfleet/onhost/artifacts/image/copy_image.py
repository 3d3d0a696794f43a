"""An image from another host: exported there, copied, loaded here, and pulled for its digest.

A loaded image has no name with a digest. A subsequent pull by digest finds the image's configuration, and
thus the whole image, on the host and transfers only the manifest, a few kilobytes. It proves the loaded
content, because the manifest names the configuration by its hash, and that names each layer by its hash.

In the containerd image store an archive has the layers as the registry sent them, and the pull finds those.
An archive of the older store has them unpacked: the plan copies no such image to a host with containerd's
store (docs/explanation/decisions.md).

A derived image has no registry: the hash of its layers and settings, which the sender reports, identifies it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from sparkfleet.contract.stage import ROOT, ExportedImage, ImageCopy, LoginUser
from sparkfleet.contract.transfer import FileToReceive, ReceiveRequest
from sparkfleet.onhost.artifacts.copy.file import BUFFER, FLUSH_EVERY
from sparkfleet.onhost.artifacts.copy.job import receive_in_child
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record, rates
from sparkfleet.onhost.artifacts.fetch.pull import PROGRESS_EVERY_S, pull
from sparkfleet.onhost.artifacts.image import mirrored_image
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import RuntimeRefusedError

MAX_AGE_S = 24 * 3600
"""Age after which an archive that nobody received is removed."""


def archive_path(state: Path, reference: str) -> Path:
    """Return the path of an image's archive while it is copied."""
    return state / "images" / f"{reference.rpartition(':')[2][:16]}.tar"


def export(reference: str, user: LoginUser, state: Path, journal: Journal) -> ExportedImage:
    """Write an image to an archive, which the login user can send."""
    path = archive_path(state, reference)
    record = files.read_document(ExportedImage, path.with_suffix(".json"))
    if record and path.exists():
        return record
    images, name = onhost.images(), reference.partition("@")[0]
    image = images.find_image(reference)
    total = image.size if image else 0
    journal.log("phase", f"{name}: {total >> 20} MiB", phase="pack", have=0, total=total)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    part = path.with_suffix(".part")
    digest = hashlib.sha256()

    def on_progress(have: int) -> None:
        _report(journal, name, "pack", have, total)

    try:
        with part.open("wb", buffering=0) as file, images.export(reference) as archive:
            size = _write(archive, file, digest, on_progress)
    except RuntimeRefusedError as error:
        files.remove(part)
        raise StageError(
            name,
            f"could not be exported: {error}",
            "free disk space on that host (df -h)",
            source_failed=True,
        ) from error
    os.chown(part, user.uid, user.gid)
    os.chmod(part, 0o600)
    os.replace(part, path)
    exported = ExportedImage(str(path), size, digest.hexdigest(), image.content if image else "")
    files.write_document(path.with_suffix(".json"), exported)
    return exported


def _write(source: IO[bytes], file: IO[bytes], digest: Any, on_progress: Callable[[int], None]) -> int:
    size, flushed, reported = 0, 0, time.monotonic()
    while chunk := source.read(BUFFER):
        file.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        if size - flushed >= FLUSH_EVERY:  # the page cache shares memory with the engine
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            flushed = size
        if time.monotonic() - reported > PROGRESS_EVERY_S:
            reported = time.monotonic()
            on_progress(size)
    os.fsync(file.fileno())
    return size


def copy(order: ImageCopy, user: LoginUser, transfer_key: str, journal: Journal, state: Path) -> None:
    """Copy an image from another host. Raise StageError when it is not present afterwards."""
    reference, name = order.image, order.image.partition("@")[0]
    if _is_present(reference, order.id):
        return
    path = archive_path(state, reference)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    subject = f"{name} from {order.sender}"
    to_receive = FileToReceive(0, order.size, order.sha256, str(path), name)
    request = ReceiveRequest(order.place, (to_receive,), transfer_key=transfer_key)

    def on_progress(have: int) -> None:
        _report(journal, subject, "copy", have, order.size)

    began = time.monotonic()
    fetched = receive_in_child(request, ROOT, on_progress).fetched
    rates.note(state, rates.COPY, fetched, time.monotonic() - began)
    with fetch_record.image(state, reference):
        journal.log("phase", name, phase="load")
        try:
            onhost.images().load(path)
        except RuntimeRefusedError as error:
            files.remove(path)
            raise StageError(name, f"could not be loaded: {error}", "df -h, then run again") from error
        if order.id:
            _require_id(order, state)
        elif order.manifests:
            mirrored_image.assign_digest(reference, order.manifests, journal)
        else:
            pull(reference, user, journal)
    files.remove(path)


def _is_present(reference: str, content: str) -> bool:
    """Return whether the image is here; an older sender reports its id instead of its content."""
    image = onhost.images().find_image(reference)
    return image is not None and content in ("", image.content, image.id)


def _require_id(order: ImageCopy, state: Path) -> None:
    """Raise StageError when the loaded image is not the one that was sent."""
    if not _is_present(order.image, order.id):
        onhost.images().remove_image(order.image)
        files.remove(archive_path(state, order.image))
        raise StageError(
            order.image,
            f"has other content than on {order.sender}; it was discarded",
            "run again; if it persists, check the disks of both hosts",
        )


def _report(journal: Journal, subject: str, phase: str, have: int, total: int) -> None:
    journal.log("phase", f"{subject} {have >> 20} of {total >> 20} MiB", phase=phase, have=have, total=total)


def forget(state: Path, reference: str) -> None:
    """Remove an image's archive."""
    for suffix in (".tar", ".json", ".part"):
        files.remove(archive_path(state, reference).with_suffix(suffix))


def sweep(state: Path) -> None:
    """Remove archives whose operator is gone."""
    for path in (state / "images").glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > MAX_AGE_S:
                files.remove(path)
