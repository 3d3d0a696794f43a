"""A derived image: pinned Python packages, installed into a pinned base on this Spark.

The wheels are fetched and verified by their hashes, then installed in an instance of the base without
network, which becomes the image. Its name has the hash of all inputs, and its label repeats it; an incomplete
build has neither.
"""

from __future__ import annotations

import http.client
import importlib.resources
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sparkfleet.contract.stage import ROOT, ImageBuild, LoginUser, SenderPlace, StageRequest, WheelFile
from sparkfleet.contract.transfer import FileToReceive, ReceiveRequest
from sparkfleet.onhost.artifacts import pace
from sparkfleet.onhost.artifacts.copy.file import BUFFER
from sparkfleet.onhost.artifacts.copy.job import receive_in_child
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record, hash_record, rates
from sparkfleet.onhost.artifacts.fetch.pull import pull
from sparkfleet.onhost.artifacts.image.image_refs import LABEL_DERIVED
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import DerivedImage, DeriveError, RuntimeRefusedError, RuntimeUnavailableError

INSTANCE_PREFIX = "sparkfleet-build-"
"""Name of the instance in which an image is built, before its tag."""
BUILD_S = 3600
TIMEOUT_S = 60
"""Seconds for each read of a download, whose rate is limited, too."""
LONGEST_WHEEL = 4 << 30
"""Bytes of a wheel whose size is not in the lock file."""
MAX_AGE_S = 24 * 3600
"""Age after which wheels of an incomplete build are removed."""


def tag_of(reference: str) -> str:
    """Return the tag of a derived image: the hash of its inputs."""
    return reference.rpartition(":")[2]


def is_present(reference: str) -> bool:
    """Return whether a derived image is on the host, with the content that its name promises."""
    image = onhost.images().find_image(reference)
    return image is not None and image.labels.get(LABEL_DERIVED) == tag_of(reference)


def build(order: ImageBuild, user: LoginUser, transfer_key: str, journal: Journal, state: Path) -> None:
    """Build a derived image unless it is present. Raise StageError when it is not present afterwards."""
    if is_present(order.image):
        return
    _sweep(state)
    with fetch_record.image(state, order.base):
        began = time.monotonic()
        rates.note(state, rates.PULL, pull(order.base, user, journal), time.monotonic() - began)
    folder = state / "builds" / tag_of(order.image)
    folder.mkdir(parents=True, exist_ok=True)
    if order.wheel_sender:
        _copy_wheels(order.wheels, order.wheel_sender, transfer_key, folder, journal)
    download_wheels(order.wheels, folder, journal)
    try:
        with fetch_record.image(state, order.image):
            _install(order, folder, journal)
    finally:
        files.remove(folder)


def prefer_derived(request: StageRequest) -> StageRequest:
    """Return the request with the derived image instead of its base, if that is present.

    A copied derived image has all of its base but the base's name: a pull would transfer it again.
    """
    derived = request.skip_if_image
    if not derived or not is_present(derived):
        return request
    weights = tuple(replace(model, image=derived) for model in request.weights)
    return replace(request, images=(), weights=weights)


def _copy_wheels(
    wheels: Sequence[WheelFile], place: SenderPlace, transfer_key: str, folder: Path, journal: Journal
) -> None:
    """Copy the wheels from a sender; each is verified by its hash."""
    journal.log("phase", f"from {place.sender}", phase="packages")
    to_receive = tuple(
        FileToReceive(wheel.number, wheel.size, wheel.sha256, str(folder / Path(wheel.name).name), wheel.name)
        for wheel in wheels
    )
    receive_in_child(ReceiveRequest(place, to_receive, transfer_key=transfer_key), ROOT, lambda _: None)


def download_wheels(wheels: Sequence[WheelFile], folder: Path, journal: Journal) -> None:
    """Download the wheels that are not in the folder yet; each gets its name when its hash is right."""
    for number, wheel in enumerate(wheels, 1):
        target = folder / wheel.name
        if target.parent != folder:
            raise StageError(repr(wheel.name), "is not the name of a wheel", "sparkfleet lock")
        if target.exists() and hash_record.content_is(target, wheel.sha256):
            continue
        journal.log("phase", f"{wheel.name} ({number} of {len(wheels)})", phase="packages")
        part = folder / f"{wheel.name}.part"
        _download(wheel, part)
        if not hash_record.content_is(part, wheel.sha256):
            files.remove(part)
            raise StageError(
                wheel.name,
                "does not match the lock file; it was discarded",
                "run again; if it persists, the package index or a proxy changes the content",
            )
        part.replace(target)


def _download(wheel: WheelFile, part: Path) -> None:
    if not wheel.url.startswith(("https://", "http://")):
        raise StageError(wheel.name, f"a Spark cannot download {wheel.url}", "sparkfleet lock --update '*'")

    def transfer(arrived: Callable[[int], None]) -> None:
        with urllib.request.urlopen(wheel.url, timeout=TIMEOUT_S) as response, part.open("wb") as file:
            files.write_from(response, file, wheel.size or LONGEST_WHEEL, BUFFER, arrived)

    index = urllib.parse.urlsplit(wheel.url).netloc
    try:
        pace.run(pace.Pace(index, wheel.name), transfer)
    except pace.TooSlowError as error:
        raise pace.too_slow(wheel.name, error, index) from None
    except urllib.error.HTTPError as error:
        error.close()
        raise StageError(
            wheel.name,
            f"could not be downloaded: HTTP {error.code} {error.reason} from the package index",
            "sparkfleet lock --update '*', then run again",
            wheel.url,
        ) from error
    except (OSError, http.client.HTTPException) as error:
        full = isinstance(error, OSError) and error.errno == 28  # noqa: PLR2004  (ENOSPC)
        remedy = "free disk space (df -h)" if full else "check the Spark's connection to the package index"
        raise StageError(
            wheel.name,
            f"could not be downloaded: {error}",
            f"{remedy}, then run again; complete packages are kept",
            wheel.url,
        ) from error


def _install(order: ImageBuild, folder: Path, journal: Journal) -> None:
    """Install the wheels into the base and name the result."""
    program = (
        importlib.resources.files("sparkfleet.onhost.artifacts.image")
        .joinpath("install_packages.py")
        .read_text()
    )
    packages, base = ", ".join(order.install), order.base.partition("@")[0]
    journal.log("phase", f"{packages} into {base}", phase="build")
    image = DerivedImage(
        order.image,
        order.base,
        ("python3", "-B", "-c", program),
        order.install,
        folder,
        {**order.labels, LABEL_DERIVED: tag_of(order.image)},
        f"{INSTANCE_PREFIX}{tag_of(order.image)}",
        BUILD_S,
    )
    try:
        onhost.images().derive(image)
    except DeriveError as error:
        raise _install_error(str(error), packages, base) from None
    except (RuntimeRefusedError, RuntimeUnavailableError) as error:
        message = f"the image with {packages} could not be built: {error}"
        raise StageError(order.image, message, "df -h, then run again") from error
    journal.log("phase", f"{order.image} is complete", phase="build")


def _install_error(output: str, packages: str, base: str) -> StageError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["no output"]
    return StageError(
        packages,
        f"cannot be installed into {base}; the build was discarded",
        "declare another range in `packages:` or requires.packages, then: sparkfleet lock",
        " ".join(errors)[:600],
    )


def _sweep(state: Path) -> None:
    """Remove what interrupted builds left behind: instances, unnamed images, old wheels."""
    images = onhost.images()
    images.remove_instances(LABEL_DERIVED, INSTANCE_PREFIX)
    images.remove_unnamed(LABEL_DERIVED)
    for folder in (state / "builds").glob("*"):
        if time.time() - folder.stat().st_mtime > MAX_AGE_S:
            files.remove(folder)
