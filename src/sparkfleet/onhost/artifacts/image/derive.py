"""A derived image: a pinned base and pinned Python packages, put together on this Spark.

The wheels are fetched, each checked by its hash; then they are installed in a container of the base without
network, and that container becomes the image. Its name has the hash of all that it is made from, and its
labels say so: a build that was cut off has neither.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.resources
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.copy.file import BUFFER
from sparkfleet.onhost.artifacts.copy.job import ROOT, in_child
from sparkfleet.onhost.artifacts.fetch import rates, staged, verified
from sparkfleet.onhost.artifacts.fetch.pull import StageError, pull
from sparkfleet.onhost.artifacts.image.image_refs import LABEL_DERIVED
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError
from sparkfleet.runtimes.docker.onhost.images import ImageEngine

CONTAINER = "sparkfleet-build-"
"""How the container is called in which an image is made; the tag follows."""
BUILD_S = 3600
OLD_S = 24 * 3600
"""Age after which wheels of a build that never ended are removed."""
OUTPUT_LINES = 200


def tag_of(reference: str) -> str:
    """Return the tag of a derived image: the hash of all that it is made from."""
    return reference.rpartition(":")[2]


def is_here(engine: ImageEngine, reference: str) -> bool:
    """Tell whether a derived image is here, and is what its name says."""
    found = engine.image(reference)
    return found is not None and (found["Config"].get("Labels") or {}).get(LABEL_DERIVED) == tag_of(reference)


def build(order: Mapping[str, Any], home: Path, journal: Journal, state: Path) -> None:
    """Make a derived image unless it is here. Raise StageError when it is not here then.

    ``order``: ``image`` (its name), ``base`` (``repository@digest``), ``install`` (``name==version``),
    ``wheels`` (``name``, ``url``, ``sha256``, ``size``) and ``labels``; and ``carried`` where the wheels come
    from a sender: ``sender``, ``listeners``, ``transfer_key``, and each wheel has its ``number`` there.
    """
    engine, base = ImageEngine(), order["base"]
    if is_here(engine, order["image"]):
        return
    program = (
        importlib.resources.files("sparkfleet.onhost.artifacts.image")
        .joinpath("install_packages.py")
        .read_text()
    )
    _sweep(engine, state)
    with staged.image(state, base):
        began = time.monotonic()
        rates.note(state, rates.PULL, pull(base, home, journal), time.monotonic() - began)
    folder = state / "builds" / tag_of(order["image"])
    if order.get("carried"):
        _copy_wheels(order, folder, journal)
    fetch_wheels(order["wheels"], folder, journal)
    try:
        with staged.image(state, order["image"]):
            _make(engine, {**order, "program": program}, folder, journal)
    finally:
        files.remove(folder)


def with_what_is_here(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request to download with the derived image instead of its base, if that is here.

    A copy of a derived image has all of its base but the base's name: a pull would fetch it once more.
    """
    derived = request.get("unless", "")
    if not derived or not is_here(ImageEngine(), derived):
        return request
    weights = [{**one, "image": derived} for one in request.get("weights", ())]
    return {**request, "images": [], "weights": weights}


def with_key(order: Mapping[str, Any], key: Path) -> Mapping[str, Any]:
    """Return an order with the key that its sender asks for; one without a sender needs none."""
    if not order.get("carried"):
        return order
    return {**order, "carried": {**order["carried"], "transfer_key": key.read_text(encoding="utf-8")}}


def _copy_wheels(order: Mapping[str, Any], folder: Path, journal: Journal) -> None:
    """Bring the wheels from a sender; each is here when its hash is right."""
    folder.mkdir(parents=True, exist_ok=True)
    journal.log("phase", f"from {order['carried']['sender']}", phase="packages")
    files_asked = [
        {"number": one["number"], "size": one["size"], "blob": one["sha256"], "name": one["name"],
         "target": str(folder / Path(one["name"]).name)}
        for one in order["wheels"]
    ]  # fmt: skip
    in_child({**order["carried"], "files": files_asked}, ROOT, lambda _: None)


def fetch_wheels(wheels: list[dict[str, Any]], folder: Path, journal: Journal) -> None:
    """Bring the wheels that are not in the folder yet, each under its name when its hash is right."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, wheel in enumerate(wheels, 1):
        target = folder / wheel["name"]
        if target.parent != folder:
            raise StageError(f"{wheel['name']} is no name of a wheel", "sparkfleet lock")
        if target.exists() and verified.content_is(target, wheel["sha256"]):
            continue
        journal.log("phase", f"{wheel['name']} ({number} of {len(wheels)})", phase="packages")
        part = folder / f"{wheel['name']}.part"
        _download(wheel, part)
        if not verified.content_is(part, wheel["sha256"]):
            files.remove(part)
            raise StageError(
                f"{wheel['name']} arrived with another content than the locked one; it is not kept",
                "run again; if it stays, the package index or a proxy before it is broken",
            )
        part.replace(target)


def _download(wheel: Mapping[str, Any], part: Path) -> None:
    if not wheel["url"].startswith(("https://", "http://")):
        raise StageError(f"{wheel['url']} is no URL that a Spark can fetch", "sparkfleet lock --update '*'")
    try:
        with urllib.request.urlopen(wheel["url"], timeout=60) as answer, part.open("wb") as file:
            while chunk := answer.read(BUFFER):
                file.write(chunk)
    except urllib.error.HTTPError as error:
        raise StageError(
            f"{wheel['name']} could not be fetched: the package index says {error.code} {error.reason}",
            "sparkfleet lock --update '*', then run again",
            wheel["url"],
        ) from error
    except (OSError, http.client.HTTPException) as error:
        full = isinstance(error, OSError) and error.errno == 28  # noqa: PLR2004  (ENOSPC)
        remedy = "df -h; free some room" if full else "check the Spark's way to the package index"
        raise StageError(
            f"{wheel['name']} could not be fetched: {error}",
            f"{remedy}, then run again: whole packages are kept",
            wheel["url"],
        ) from error


def _make(engine: ImageEngine, order: Mapping[str, Any], folder: Path, journal: Journal) -> None:
    """Install the wheels in a container of the base and give what comes of it its name."""
    name, reference = f"{CONTAINER}{tag_of(order['image'])}", order["image"]
    packages = ", ".join(order["install"])
    journal.log("phase", f"{packages} into {order['base'].partition('@')[0]}", phase="build")
    base = engine.image(order["base"])
    assert base is not None  # noqa: S101  (it was just pulled)
    labels = {**order["labels"], LABEL_DERIVED: tag_of(reference)}
    try:
        engine.create_from(name, _container(base, order, folder, labels))
        engine.start(name)
        code = engine.wait(name, BUILD_S)
        if code:
            raise _failed(engine.log(name, OUTPUT_LINES), packages, order["base"])
        made = engine.commit(name, {**base["Config"], "Entrypoint": base["Config"].get("Entrypoint") or []})
        _named(engine, made, base, reference)
    except (RuntimeRefusedError, RuntimeUnavailableError) as error:
        raise StageError(
            f"the image with {packages} could not be made: {error}", "df -h; then run again"
        ) from error
    finally:
        with contextlib.suppress(RuntimeRefusedError, RuntimeUnavailableError):
            engine.remove(name)
    journal.log("phase", f"{reference} is here", phase="build")


def _container(
    base: Mapping[str, Any], order: Mapping[str, Any], folder: Path, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the container in which the packages are installed, as the Engine's API takes it."""
    host = {
        "NetworkMode": "none",
        "Mounts": [{"Type": "bind", "Source": str(folder), "Target": "/mnt", "ReadOnly": True}],
        "Tmpfs": {"/tmp": ""},  # noqa: S108  (what is written there is not in the image)
    }
    words = {"Entrypoint": ["python3", "-B", "-c", order["program"]], "Cmd": list(order["install"])}
    user = {"User": "0:0"} if base["Config"].get("User") else {}
    return {"Image": base["Id"], **words, **user, "Labels": dict(labels), "HostConfig": host}


_KEPT = ("Entrypoint", "Env", "User", "WorkingDir")


def _named(engine: ImageEngine, made: str, base: Mapping[str, Any], reference: str) -> None:
    """Give the image its name when it starts as its base does; else remove it."""
    found = engine.image(made) or {"Config": {}}
    other = [key for key in _KEPT if (found["Config"].get(key) or []) != (base["Config"].get(key) or [])]
    if other:
        engine.remove_image(made)
        raise StageError(f"docker made an image with another {', '.join(other)} than its base", "run again")
    repository, _, tag = reference.rpartition(":")
    engine.name_image(made, repository, tag)


def _failed(said: str, packages: str, base: str) -> StageError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["it said nothing"]
    return StageError(
        f"{packages} cannot be installed into {base.partition('@')[0]}; nothing of it is kept",
        "name another range in `packages:` or requires.packages, then: sparkfleet lock",
        " ".join(errors)[:600],
    )


def _sweep(engine: ImageEngine, state: Path) -> None:
    """Remove what builds left behind that were cut off: containers, images without a name, old wheels."""
    for name in engine.names_of_containers(LABEL_DERIVED):
        if name.startswith(CONTAINER):
            engine.remove(name)
    for image in engine.unnamed_images(LABEL_DERIVED):
        with contextlib.suppress(RuntimeRefusedError):
            engine.remove_image(image)
    for folder in (state / "builds").glob("*"):
        if time.time() - folder.stat().st_mtime > OLD_S:
            files.remove(folder)
