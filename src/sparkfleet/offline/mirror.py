"""An offline mirror: a directory with the lock file, models in the hub's layout, and images as an OCI layout.

fleet.lock          the lock file whose content is mirrored
hub/                a Hugging Face cache: HF_HUB_CACHE=DIR/hub works with every tool
images/             an OCI image layout, readable by skopeo and others
wheels/             Python packages for derived images
verified.json       which files were hashed, with their size and time
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sparkfleet.config.lock_data import Lock, LockedImage
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Fleet, Weights
from sparkfleet.desired_state.derived_packages import Wheel
from sparkfleet.lock.errors import LockError
from sparkfleet.lock.registry import Registry
from sparkfleet.offline import downloads, images, wheel_downloads

Log = Callable[[str], None]
"""Called with a line of progress."""


@dataclass(frozen=True)
class Content:
    """What a fleet needs, each item once."""

    images: tuple[LockedImage, ...]
    models: tuple[Weights, ...]
    wheels: tuple[Wheel, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where images and models are downloaded from."""

    registry: Registry
    endpoint: str = ""
    token: str = ""


def content(fleet: Fleet, lock: Lock) -> Content:
    """Return the images and models of a fleet's services, and the packages of derived images."""
    services = [service for host in fleet.hosts for service in host.services]
    declared = [service.image for service in services if service.image]
    digests = {image.digest for image in declared}
    found = {entry.image.pull_ref: entry for entry in lock.images.values() if entry.image.digest in digests}
    weights = {(w.repo, w.revision): w for service in services for w in service.repositories}
    derived_packages = [image.derived_packages for image in declared if image.derived_packages]
    packages = {wheel.name: wheel for one in derived_packages for wheel in one.wheels}
    return Content(tuple(found.values()), tuple(weights.values()), tuple(packages.values()))


def write(path: Path, required: Content, source: Source, log: Log) -> Iterator[Diagnostic]:
    """Download what the mirror lacks; yield what could not be downloaded."""
    tasks: list[tuple[str, Callable[[], None]]] = [
        *(
            (one.image.display, partial(images.download, path, one, source.registry, log))
            for one in required.images
        ),
        *((one.name, partial(wheel_downloads.download, path, one, log)) for one in required.wheels),
        *(
            (one.repo, partial(downloads.download, path, one, source.endpoint, source.token, log))
            for one in required.models
        ),
    ]
    for name, task in tasks:
        try:
            task()
        except LockError as error:
            yield replace(error.diagnostic, location=name, code="mirror-download-failed")
