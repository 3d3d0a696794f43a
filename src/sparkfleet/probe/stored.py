"""Items on a host's disks that a prune could remove, and what uses them, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StoredImage:
    """An image: its id, every name that it has (tags and digests), bytes on disk, shared layers included."""

    id: str
    refs: tuple[str, ...]
    bytes: int = 0


@dataclass(frozen=True)
class StoredBlob:
    """A file of a repository's ``blobs/``; ``shared``: it links to this file of the hub's shared store."""

    bytes: int
    shared: str = ""


@dataclass(frozen=True)
class StoredRevision:
    """A snapshot: the blobs that it links to, bytes of files that it has itself, when it last changed."""

    revision: str
    path: str
    blobs: tuple[str, ...] = ()
    own: int = 0
    changed: float = 0.0
    """Unix time of its newest link or file; 0: nothing of it is there."""


@dataclass(frozen=True)
class StoredRepository:
    """A model repository in the hub's cache."""

    repo: str
    path: str
    revisions: tuple[StoredRevision, ...]
    blobs: Mapping[str, StoredBlob] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredCache:
    """A directory of compiled kernels."""

    name: str
    path: str
    bytes: int = 0
    changed: float = 0.0


@dataclass(frozen=True)
class StoredContainer:
    """A container, whoever's, in whatever state; ``uses`` and ``caches``: what its words and mounts name."""

    id: str
    name: str
    image_id: str
    uses: tuple[str, ...] = ()
    """Paths of snapshots."""
    caches: tuple[str, ...] = ()
    """Paths of compile caches."""


@dataclass(frozen=True)
class StoredGeneration:
    """A generation in the host's state."""

    id: str
    image: str
    model: str = ""
    revision: str = ""
    """Commit of the model."""
    names: tuple[str, ...] = ()
    """Words of its command line that may be further models: a drafter's repository."""
    promoted_at: float = 0.0
    path: str = ""
    """Of its own file; "" for what is a part of the current record."""
    bytes: int = 0
    uses: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredService:
    """State of a service: current generation, the one it replaced, and others."""

    record_sha256: str = ""
    """SHA-256 of the current record; "" without one."""
    current: StoredGeneration | None = None
    replaced: tuple[StoredGeneration, ...] = ()
    generations: tuple[StoredGeneration, ...] = ()
    """Oldest first."""

    @property
    def last_good(self) -> tuple[StoredGeneration, ...]:
        """Return what a rollback goes back to: what the current one replaced, else the newest other one."""
        if self.current is None:
            return ()
        others = [one for one in self.generations if one.id != self.current.id]
        return self.replaced or tuple(others[-1:])


@dataclass(frozen=True)
class StoredEvidence:
    """What was kept of a candidate that failed."""

    rollout: str
    path: str
    bytes: int = 0
    changed: float = 0.0


@dataclass(frozen=True)
class Staged:
    """One entry of the record of what sparkfleet itself brought here: bytes, and when (unix time)."""

    bytes: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class Stored:
    """All of it."""

    images: tuple[StoredImage, ...] = ()
    repositories: tuple[StoredRepository, ...] = ()
    caches: tuple[StoredCache, ...] = ()
    containers: tuple[StoredContainer, ...] = ()
    services: Mapping[str, StoredService] = field(default_factory=dict)
    evidence: tuple[StoredEvidence, ...] = ()
    staged_images: Mapping[str, Staged] = field(default_factory=dict)
    """By reference."""
    staged_revisions: Mapping[str, Staged] = field(default_factory=dict)
    """By the path of the snapshot."""


def read_stored(data: Mapping[str, Any]) -> Stored:
    """Return the typed answer of ``looks/stored.py``."""
    staged = data["staged"]
    return Stored(
        images=tuple(StoredImage(seen["id"], tuple(seen["refs"]), seen["bytes"]) for seen in data["images"]),
        repositories=tuple(_repository(seen) for seen in data["repositories"]),
        caches=tuple(StoredCache(**seen) for seen in data["caches"]),
        containers=tuple(StoredContainer(**_tuples(seen, "uses", "caches")) for seen in data["containers"]),
        services={name: _service(seen) for name, seen in data["services"].items()},
        evidence=tuple(StoredEvidence(**seen) for seen in data["evidence"]),
        staged_images={key: _staged(entry) for key, entry in staged["images"].items()},
        staged_revisions={key: _staged(entry) for key, entry in staged["revisions"].items()},
    )


def _repository(seen: Mapping[str, Any]) -> StoredRepository:
    return StoredRepository(
        seen["repo"],
        seen["path"],
        tuple(StoredRevision(**_tuples(one, "blobs")) for one in seen["revisions"]),
        {name: StoredBlob(**blob) for name, blob in seen["blobs"].items()},
    )


def _service(seen: Mapping[str, Any]) -> StoredService:
    return StoredService(
        seen["books"],
        _generation(seen["current"]) if seen["current"] else None,
        tuple(_generation(one) for one in seen["replaced"]),
        tuple(_generation(one) for one in seen["generations"]),
    )


def _generation(seen: Mapping[str, Any]) -> StoredGeneration:
    return StoredGeneration(**_tuples(seen, "names", "uses", "caches"))


def _tuples(seen: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**seen, **{name: tuple(seen[name]) for name in names}}


def _staged(entry: Mapping[str, Any]) -> Staged:
    return Staged(int(entry.get("bytes") or 0), float(entry.get("at") or 0))
