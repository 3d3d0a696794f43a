"""Items on a host's disks that a prune could remove, and what uses them, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sparkfleet.contract.state import StagedItem


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
    """A container, managed or not, in any state; ``uses`` and ``caches``: what its settings name."""

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
    """Arguments that may be further models: a drafter's repository."""
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
        """Return the rollback target: what the current one replaced, else the newest other one."""
        if self.current is None:
            return ()
        older = [one for one in self.generations if one.id != self.current.id]
        return self.replaced or tuple(older[-1:])


@dataclass(frozen=True)
class StoredEvidence:
    """What was kept of a failed candidate."""

    rollout: str
    path: str
    bytes: int = 0
    changed: float = 0.0


@dataclass(frozen=True)
class Stored:
    """Everything on the disks that a prune considers, and what uses it."""

    images: tuple[StoredImage, ...] = ()
    repositories: tuple[StoredRepository, ...] = ()
    caches: tuple[StoredCache, ...] = ()
    containers: tuple[StoredContainer, ...] = ()
    services: Mapping[str, StoredService] = field(default_factory=dict)
    evidence: tuple[StoredEvidence, ...] = ()
    staged_images: Mapping[str, StagedItem] = field(default_factory=dict)
    """Images that sparkfleet fetched, by reference."""
    staged_revisions: Mapping[str, StagedItem] = field(default_factory=dict)
    """Models that sparkfleet fetched, by the path of the snapshot."""
