"""Content of fleet.lock: the digest of each image tag, the commit and files of each model.

Types and look-up; ``sparkfleet.lock`` reads, resolves and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sparkfleet.desired_state import ImageRef, Weights
from sparkfleet.desired_state.derived_packages import DerivedPackages


@dataclass(frozen=True)
class LockedImage:
    """An image as it was when it was locked."""

    image: ImageRef
    """With the digest of the index, entrypoint, vLLM version and compressed size."""
    arm64: str = ""
    """Digest of the manifest for linux/arm64 (``digest`` itself if that is no index)."""
    created: str = ""
    """ISO date-time from the image's config."""
    env: tuple[tuple[str, str], ...] = ()
    """The image's own variables."""


@dataclass(frozen=True)
class LockedModel:
    """A model repository at the commit of the requested revision."""

    weights: Weights
    requested: str = ""
    """Branch, tag or commit as declared; "" is the default branch."""


@dataclass(frozen=True)
class LockedPackages:
    """Python packages that an image lacks, and the Python and machine they are for."""

    derived_packages: DerivedPackages
    python: str
    machine: str


@dataclass(frozen=True)
class Lock:
    """Entries of a fleet.lock by ``image_key``, ``model_key`` and ``packages_key``."""

    images: Mapping[str, LockedImage] = field(default_factory=dict)
    models: Mapping[str, LockedModel] = field(default_factory=dict)
    packages: Mapping[str, LockedPackages] = field(default_factory=dict)


def image_key(image: ImageRef) -> str:
    """Return the key of an image as declared: its full name with tag or digest."""
    return f"{image.repository}@{image.digest}" if image.digest else f"{image.repository}:{image.tag}"


def model_key(repo: str, revision: str, file: str = "") -> str:
    """Return the key of a repository at a declared revision ("" is the default branch), and of its file."""
    at = f"{repo}@{revision}" if revision else repo
    return f"{at} {file}" if file else at


def packages_key(image: ImageRef, required: Sequence[tuple[str, str]]) -> str:
    """Return the key of packages (name, version range) for an image as declared."""
    return f"{image_key(image)} + {', '.join(f'{name}{requested}' for name, requested in required)}"


def find_image(lock: Lock, image: ImageRef) -> ImageRef | None:
    """Return the image with its locked values; None if it is not locked.

    An image that is declared by digest needs no entry.
    """
    entry = lock.images.get(image_key(image))
    if entry is None and image.digest:
        same = (found for found in lock.images.values() if found.image.digest == image.digest)
        entry = next(same, None)
    if entry:
        cuda = dict(entry.env).get("CUDA_VERSION", "")
        return replace(entry.image, repository=image.repository, tag=image.tag, cuda=cuda)
    return image if image.digest else None


def find_model(lock: Lock, repo: str, revision: str, file: str = "") -> Weights | None:
    """Return the repository at that revision; a commit may be shortened."""
    entry = lock.models.get(model_key(repo, revision, file))
    if entry:
        return entry.weights
    if len(revision) >= 7:  # noqa: PLR2004  (the shortest commit that a host file may give)
        for other in lock.models.values():
            weights = other.weights
            if (weights.repo, weights.file) == (repo, file) and weights.revision.startswith(revision):
                return other.weights
    return None
