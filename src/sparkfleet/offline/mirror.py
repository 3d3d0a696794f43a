"""An offline mirror: a directory with the lock file, models in the hub's layout, and images as an OCI layout.

fleet.lock          what it is an offline mirror of
hub/                a Hugging Face cache: HF_HUB_CACHE=DIR/hub works with every tool
images/             an OCI image layout: skopeo and others read it
wheels/             Python packages that images lack: what derived images are built from
verified.json       which files were hashed, in which state
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sparkfleet.config.locked import Lock, LockedImage
from sparkfleet.config.resolved import Fleet, Weights, Wheel
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.lock.hub import HubError
from sparkfleet.lock.packages import PackagesError
from sparkfleet.lock.registry import Registry, RegistryError
from sparkfleet.offline import downloads, images, wheel_downloads

Tell = Callable[[str], None]
"""Called with a line for people."""


@dataclass(frozen=True)
class Content:
    """What a fleet needs, each thing once."""

    images: tuple[LockedImage, ...]
    models: tuple[Weights, ...]
    wheels: tuple[Wheel, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where things come from."""

    registry: Registry
    endpoint: str = ""
    token: str = ""


def content(fleet: Fleet, lock: Lock) -> Content:
    """Return the images and models that the services of a fleet name, and the packages of derived images."""
    services = [service for host in fleet.hosts for service in host.services]
    digests = {service.image.digest for service in services}
    found = {entry.image.pull_ref: entry for entry in lock.images.values() if entry.image.digest in digests}
    weights = {(w.repo, w.revision): w for service in services for w in service.repositories}
    derived_packages = [
        service.image.derived_packages for service in services if service.image.derived_packages
    ]
    packages = {wheel.name: wheel for one in derived_packages for wheel in one.wheels}
    return Content(tuple(found.values()), tuple(weights.values()), tuple(packages.values()))


def write(path: Path, wanted: Content, source: Source, tell: Tell) -> Iterator[Diagnostic]:
    """Download what is missing in an offline mirror; yield what could not be downloaded."""
    for image in wanted.images:
        try:
            images.bring(path, image, source.registry, tell)
        except RegistryError as error:
            yield Diagnostic(
                image.image.display, error.found, hint=error.remedy, code="mirror-download-failed"
            )
    for wheel in wanted.wheels:
        try:
            wheel_downloads.bring(path, wheel, tell)
        except PackagesError as error:
            yield Diagnostic(wheel.name, error.found, hint=error.remedy, code="mirror-download-failed")
    for weights in wanted.models:
        try:
            downloads.bring(path, weights, source.endpoint, source.token, tell)
        except HubError as error:
            yield Diagnostic(weights.repo, error.found, hint=error.remedy, code="mirror-download-failed")
