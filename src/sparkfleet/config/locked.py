"""What fleet.lock says: every image tag as a digest, every model as a commit with its files.

Only the types and their look-up; ``sparkfleet.lock`` reads, resolves and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sparkfleet.config.resolved import DerivedPackages, ImageRef, Weights


@dataclass(frozen=True)
class LockedImage:
    """One image: what its name meant when it was locked."""

    image: ImageRef
    """With the digest of the index, entrypoint, vLLM version and compressed size."""
    arm64: str = ""
    """Digest of the linux/arm64 manifest below the index (the same where there is no index)."""
    created: str = ""
    """ISO date-time from the image's config."""
    env: tuple[tuple[str, str], ...] = ()
    """The image's own variables."""


@dataclass(frozen=True)
class LockedModel:
    """One model repository at the commit that the asked revision meant."""

    weights: Weights
    asked: str = ""
    """Branch, tag or commit as it was asked for; "" is the default branch."""


@dataclass(frozen=True)
class LockedPackages:
    """Python packages that an image lacks, and what they were chosen for."""

    derived_packages: DerivedPackages
    python: str
    machine: str


@dataclass(frozen=True)
class Lock:
    """All of a fleet.lock, by ``image_key``, ``model_key`` and ``packages_key``."""

    images: Mapping[str, LockedImage] = field(default_factory=dict)
    models: Mapping[str, LockedModel] = field(default_factory=dict)
    packages: Mapping[str, LockedPackages] = field(default_factory=dict)


def image_key(image: ImageRef) -> str:
    """Return the key of an image as it was asked for: its name in full with the tag, or with the digest."""
    return f"{image.repository}@{image.digest}" if image.digest else f"{image.repository}:{image.tag}"


def model_key(repo: str, revision: str, file: str = "") -> str:
    """Return the key of a repository at an asked revision ("" is the default branch), and of a file in it."""
    at = f"{repo}@{revision}" if revision else repo
    return f"{at} {file}" if file else at


def packages_key(image: ImageRef, required: Sequence[tuple[str, str]]) -> str:
    """Return the key of packages (name, version range) for an image as it was asked for."""
    return f"{image_key(image)} + {', '.join(f'{name}{asked}' for name, asked in required)}"


def find_image(lock: Lock, image: ImageRef) -> ImageRef | None:
    """Return the image with all that is locked of it; None when it is not there.

    An image that names its digest is itself even without an entry; its own digest counts, not the entry's.
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
    """Return the repository at that revision; a commit is found however it was asked for, also shortened."""
    entry = lock.models.get(model_key(repo, revision, file))
    if entry:
        return entry.weights
    if len(revision) >= 7:  # noqa: PLR2004  (the shortest commit that a host file may give)
        for other in lock.models.values():
            weights = other.weights
            if (weights.repo, weights.file) == (repo, file) and weights.revision.startswith(revision):
                return other.weights
    return None
