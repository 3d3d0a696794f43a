"""An image from another Spark: a file there, copied, loaded here, and given its name by its registry.

A derived image has no registry: it is known by its id, which the sender says.

What ``docker load`` brings has no digest. A pull by digest after it finds the image's configuration, and so
all of it, already here: it costs the manifest alone, a few kilobytes, and what the registry vouches for is
what was loaded, since the manifest names the configuration by its hash and that names each layer by its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from sparkfleet.onhost.artifacts.copy.file import BUFFER, FLUSH_EVERY
from sparkfleet.onhost.artifacts.copy.job import ROOT, in_child
from sparkfleet.onhost.artifacts.fetch import rates, staged
from sparkfleet.onhost.artifacts.fetch.pull import TELL_EVERY_S, StageError, pull
from sparkfleet.onhost.artifacts.image import carried_image
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine
from sparkfleet.runtimes.docker.onhost.images import ImageEngine

OLD_S = 24 * 3600
"""Age after which a file that nobody came for is removed."""


def place(state: Path, reference: str) -> Path:
    """Return where an image's file lies while it is copied."""
    return state / "images" / f"{reference.rpartition(':')[2][:16]}.tar"


def export(reference: str, user: Mapping[str, Any], state: Path, journal: Journal) -> dict[str, Any]:
    """Write an image to its file, for the login user to send; return path, size and SHA-256."""
    path = place(state, reference)
    known = files.read_json(path.with_suffix(".json"))
    if known and path.exists():
        return known
    total = DockerEngine().image_size(reference)
    name = reference.partition("@")[0]
    journal.log("phase", f"{name}: {total >> 20} MiB", phase="pack", have=0, total=total)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    part = path.with_suffix(".part")
    digest = hashlib.sha256()
    command = ["docker", "save", DockerEngine().name_of(reference) or reference]
    with (
        part.open("wb", buffering=0) as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as saving,
    ):
        assert saving.stdout is not None and saving.stderr is not None  # noqa: S101, PT018  (both are pipes)
        size = _write(saving.stdout, file, digest, lambda have: _tell(journal, name, "pack", have, total))
        said = saving.stderr.read().decode("utf-8", "replace").strip()
    if saving.returncode:
        files.remove(part)
        raise StageError(
            f"{name} could not be written to a file: {said}", "df -h on that Spark", elsewhere=True
        )
    os.chown(part, user["uid"], user["gid"])
    os.chmod(part, 0o600)
    os.replace(part, path)
    found = {"path": str(path), "size": size, "sha256": digest.hexdigest(), "id": _id_of(reference)}
    files.write_json(path.with_suffix(".json"), found)
    return found


def _write(source: IO[bytes], file: IO[bytes], digest: Any, tell: Any) -> int:
    size, flushed, told = 0, 0, time.monotonic()
    while chunk := source.read(BUFFER):
        file.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        if size - flushed >= FLUSH_EVERY:  # the page cache is the engine's memory
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            flushed = size
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            tell(size)
    os.fsync(file.fileno())
    return size


def bring(order: Mapping[str, Any], home: Path, journal: Journal, state: Path) -> None:
    """Bring an image from another Spark. Raise StageError when it is not here then.

    ``order``: ``image`` (``repository@digest``), ``sender``, ``listeners``, ``size`` and ``sha256``; of a
    derived image its ``id``; and ``manifests``, from its index down, where no registry is to be asked.
    """
    reference, name = order["image"], order["image"].partition("@")[0]
    if _is_here(reference, order.get("id", "")):
        return
    path = place(state, reference)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    total = order["size"]
    wanted = {"number": 0, "size": total, "blob": order["sha256"], "target": str(path), "name": name}
    asked = {key: order[key] for key in ("sender", "listeners")} | {
        "transfer_key": order["transfer_key"],
        "files": [wanted],
    }
    words = f"{name} from {order['sender']}"
    began = time.monotonic()
    said = in_child(asked, ROOT, lambda said: _tell(journal, words, "copy", int(said["have"]), total))
    rates.note(state, rates.COPY, said["fetched"], time.monotonic() - began)
    with staged.image(state, reference):
        journal.log("phase", name, phase="load")
        done = subprocess.run(
            ["docker", "load", "--quiet", "--input", str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            files.remove(path)
            raise StageError(f"{name} could not be loaded: {done.stderr.strip()}", "df -h; then run again")
        if order.get("id"):
            _expect(reference, order, state)
        elif order.get("manifests"):
            carried_image.give_name(reference, order["manifests"], journal)
        else:
            pull(reference, home, journal)
    files.remove(path)


def _id_of(reference: str) -> str:
    found = ImageEngine().image(reference)
    return str(found["Id"]) if found else ""


def _is_here(reference: str, identity: str) -> bool:
    return _id_of(reference) == identity if identity else DockerEngine().has_image(reference)


def _expect(reference: str, order: Mapping[str, Any], state: Path) -> None:
    """Raise StageError when what was loaded is not the very image that was sent."""
    if _id_of(reference) != order["id"]:
        DockerEngine().remove_image(reference)
        files.remove(place(state, reference))
        raise StageError(
            f"{reference} from {order['sender']} has another id than there; it is not kept",
            f"see that docker on {order['sender']} stores images as here does: docker info; then run again",
        )


def _tell(journal: Journal, words: str, phase: str, have: int, total: int) -> None:
    journal.log("phase", f"{words} {have >> 20} of {total >> 20} MiB", phase=phase, have=have, total=total)


def forget(state: Path, reference: str) -> None:
    """Remove an image's file: everyone has it."""
    for suffix in (".tar", ".json", ".part"):
        files.remove(place(state, reference).with_suffix(suffix))


def sweep(state: Path) -> None:
    """Remove files that nobody came for: their operator is gone."""
    for path in (state / "images").glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD_S:
                files.remove(path)
