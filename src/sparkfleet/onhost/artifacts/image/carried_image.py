"""An image from an offline mirror: contents copied by hash, then pulled from a registry on loopback."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.copy.job import ROOT, in_child
from sparkfleet.onhost.artifacts.fetch import rates, staged
from sparkfleet.onhost.artifacts.fetch.pull import pull_as
from sparkfleet.onhost.artifacts.image import own_registry
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine


def contents(state: Path, reference: str) -> Path:
    """Return the directory where an image's contents lie until it is pulled."""
    return state / "images" / f"{reference.rpartition(':')[2][:16]}.contents"


def bring(order: Mapping[str, Any], journal: Journal, state: Path) -> None:
    """Bring an image from an offline mirror. Raise StageError when it is not here then.

    ``order``: ``image`` (``repository@digest``), ``sender``, ``listeners``, ``transfer_key``, and
    ``contents``: digest and size of each in the order of the sender's files. What came before a cut is not
    sent again.
    """
    reference, name = order["image"], order["image"].partition("@")[0]
    if DockerEngine().has_image(reference):
        return
    folder = contents(state, reference)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    asked = {key: order[key] for key in ("sender", "listeners", "transfer_key")}
    asked["files"] = [_wanted(number, one, folder, name) for number, one in enumerate(order["contents"])]
    total = sum(one["size"] for one in order["contents"])

    def tell(said: Mapping[str, Any]) -> None:
        have = int(said["have"])
        text = f"{name} from {order['sender']} {have >> 20} of {total >> 20} MiB"
        journal.log("phase", text, phase="copy", have=have, total=total)

    began = time.monotonic()
    said = in_child(asked, ROOT, tell)
    rates.note(state, rates.COPY, said["fetched"], time.monotonic() - began)
    journal.log("phase", f"{name} came", phase="copy", have=total, total=total, fetched=said["fetched"])
    with staged.image(state, reference):
        _pull(reference, folder, journal)
    files.remove(folder)


def _wanted(number: int, one: Mapping[str, Any], folder: Path, name: str) -> dict[str, Any]:
    digest = str(one["digest"])
    target = own_registry.place(folder, digest)
    return {
        "number": number,
        "size": one["size"],
        "blob": target.name,
        "target": str(target),
        "name": f"{name} {digest[:19]}",
    }


def give_name(reference: str, manifests: Sequence[str], journal: Journal) -> None:
    """Have docker give an image that was loaded its digest, by its manifests (base64). StageError: it cannot.

    dockerd finds the configuration that they name, and so all of the image, already here.
    """
    with tempfile.TemporaryDirectory(prefix="sparkfleet-") as scratch:
        for text in manifests:
            body = base64.b64decode(text)
            own_registry.place(Path(scratch), hashlib.sha256(body).hexdigest()).write_bytes(body)
        _pull(reference, Path(scratch), journal)


def _pull(reference: str, folder: Path, journal: Journal) -> None:
    with own_registry.of(folder) as registry:
        pull_as(reference, registry.name(reference), registry.auth, journal)
