"""An image from an offline mirror: contents copied by hash, then pulled from a registry on loopback."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sparkfleet.contract.stage import ROOT, MirroredImage
from sparkfleet.contract.transfer import FileToReceive, ReceiveRequest
from sparkfleet.onhost.artifacts.copy.job import receive_in_child
from sparkfleet.onhost.artifacts.fetch import fetch_record, rates
from sparkfleet.onhost.artifacts.fetch.pull import pull_as
from sparkfleet.onhost.artifacts.image import loopback_registry
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes import onhost


def contents_directory(state: Path, reference: str) -> Path:
    """Return the directory of an image's contents until it is pulled."""
    return state / "images" / f"{reference.rpartition(':')[2][:16]}.contents"


def fetch(order: MirroredImage, transfer_key: str, journal: Journal, state: Path) -> None:
    """Copy the contents of an image and pull it. Raise StageError when it is not present afterwards.

    Contents that were received before an interruption are not transferred again.
    """
    reference, name = order.image, order.image.partition("@")[0]
    if onhost.images().find_image(reference):
        return
    folder = contents_directory(state, reference)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    to_receive = []
    for number, content in enumerate(order.contents):
        target = loopback_registry.content_path(folder, content.digest)
        subject = f"{name} {content.digest[:19]}"
        to_receive.append(FileToReceive(number, content.size, target.name, str(target), subject))
    total = sum(content.size for content in order.contents)

    def on_progress(have: int) -> None:
        text = f"{name} from {order.sender} {have >> 20} of {total >> 20} MiB"
        journal.log("phase", text, phase="copy", have=have, total=total)

    began = time.monotonic()
    request = ReceiveRequest(order.place, tuple(to_receive), transfer_key=transfer_key)
    fetched = receive_in_child(request, ROOT, on_progress).fetched
    rates.note(state, rates.COPY, fetched, time.monotonic() - began)
    journal.log("phase", f"{name} is copied", phase="copy", have=total, total=total, fetched=fetched)
    with fetch_record.image(state, reference):
        _pull(reference, folder, journal)
    files.remove(folder)


def assign_digest(reference: str, manifests: Sequence[str], journal: Journal) -> None:
    """Give a loaded image its digest by its manifests (base64). Raise StageError.

    The daemon finds the configuration that they name, and thus the whole image, on the host.
    """
    with tempfile.TemporaryDirectory(prefix="sparkfleet-") as scratch:
        for text in manifests:
            body = base64.b64decode(text)
            digest = hashlib.sha256(body).hexdigest()
            loopback_registry.content_path(Path(scratch), digest).write_bytes(body)
        _pull(reference, Path(scratch), journal)


def _pull(reference: str, folder: Path, journal: Journal) -> None:
    with loopback_registry.serve(folder) as registry:
        pull_as(reference, registry.name(reference), registry.credential, journal)
