"""Pinned Python packages that an image lacks, and the name of the derived image that contains them.

A derived image is in no registry, so it has no digest. Its name contains the hash of its inputs: base image,
wheels, requested packages, and the program that installs them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from dataclasses import dataclass

REPOSITORY = "localhost/sparkfleet/derived"
"""Of derived images: a name that no registry serves."""


@dataclass(frozen=True)
class Wheel:
    """One file of a Python package."""

    name: str
    """``scipy-1.17.0-cp312-cp312-manylinux_2_28_aarch64.whl``."""
    url: str
    sha256: str
    size: int = 0
    """Bytes; 0 if unknown."""

    @property
    def package(self) -> str:
        """Return name and version: ``scipy 1.17.0``."""
        name, version, *_ = self.name.split("-")
        return f"{name} {version}"


@dataclass(frozen=True)
class DerivedPackages:
    """Python packages that are added to an image."""

    install: tuple[str, ...]
    """Requested packages with version ranges: ``scipy>=1``."""
    wheels: tuple[Wheel, ...]
    """Wheels of all dependencies, and of pip. Those that the image already has are not installed."""

    @property
    def size(self) -> int:
        """Return the bytes of all wheels."""
        return sum(wheel.size for wheel in self.wheels)

    @property
    def packages(self) -> tuple[str, ...]:
        """Return the packages with versions, requested ones first."""
        found = [wheel.package for wheel in self.wheels if not wheel.name.startswith("pip-")]
        return tuple(sorted(found, key=lambda text: (text not in self.added, text)))

    @property
    def added(self) -> tuple[str, ...]:
        """Return the requested packages with their locked versions."""
        requested = {_normal(line) for line in self.install}
        return tuple(wheel.package for wheel in self.wheels if _normal(wheel.name.split("-")[0]) in requested)


def _normal(text: str) -> str:
    name = text
    for mark in "<>=!~[; ":
        name = name.split(mark)[0]
    return name.replace("_", "-").replace(".", "-").lower()


@functools.cache
def reference(digest: str, derived_packages: DerivedPackages) -> str:
    """Return the name of the image that is derived from a base image by these packages."""
    made_from = [
        digest,
        _program(),
        sorted(derived_packages.install),
        sorted(one.sha256 for one in derived_packages.wheels),
    ]
    return f"{REPOSITORY}:{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]}"


@functools.cache
def _program() -> str:
    source = importlib.resources.files("sparkfleet.onhost.artifacts.image").joinpath("install_packages.py")
    return hashlib.sha256(source.read_bytes()).hexdigest()
