"""What a fleet needs on its disks: declared, running, and for a rollback."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sparkfleet.desired_state import Host
from sparkfleet.plan import render_service
from sparkfleet.probe.stored import Stored, StoredGeneration, StoredImage

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|(?<=sparkfleet/derived:)[0-9a-f]{16}")
"""What identifies an image: its digest, or the hash in the name of a derived one."""


@dataclass(frozen=True)
class Needs:
    """Images by digest, models by repository and commit: needed somewhere in the fleet, so kept on all hosts.

    A host can be the copy source of a model that another host serves.
    """

    digests: frozenset[str] = frozenset()
    revisions: frozenset[tuple[str, str]] = frozenset()
    repositories: frozenset[str] = frozenset()
    """Every commit of these is kept, since the needed one is unknown."""

    def __or__(self, other: Needs) -> Needs:
        """Return the needs of both."""
        return Needs(
            self.digests | other.digests,
            self.revisions | other.revisions,
            self.repositories | other.repositories,
        )

    def has(self, repo: str, revision: str) -> bool:
        """Return whether a model at a commit is needed."""
        return (repo, revision) in self.revisions or repo in self.repositories


def digests_of(names: Iterable[str]) -> frozenset[str]:
    """Return the digests in names of images; of derived ones their tags."""
    return frozenset(digest for name in names for digest in _DIGEST.findall(name))


def declared(host: Host) -> Needs:
    """Return what the host file declares."""
    return Needs(
        digests_of(name for service in host.services for name in service.image_names),
        frozenset((w.repo, w.revision) for service in host.services for w in service.repositories),
    )


def needed_generations(stored: Stored, keep: int = 0) -> Iterator[StoredGeneration]:
    """Yield the current generation, the rollback target, and the newest ``keep`` others of each service."""
    for service in stored.services.values():
        if service.current is not None:
            yield service.current
        yield from service.last_good
        current = service.current.id if service.current else ""
        older = [one for one in service.generations if one.id != current]
        yield from older[-keep:] if keep else ()


def of_host(stored: Stored, keep: int = 0) -> Needs:
    """Return what runs or passed its gate last on a Spark, and the images of all its containers.

    Read from the state, not from the disk: a file that this host lost can be copied from another host.
    """
    generations = tuple(needed_generations(stored, keep))
    used = {path for one in generations for path in one.uses}
    used |= {path for container in stored.containers for path in container.uses}
    used_revisions = {
        (repository.repo, one.revision)
        for repository in stored.repositories
        for one in repository.revisions
        if one.path in used
    }
    revisions = used_revisions | {(one.model, one.revision) for one in generations}
    named = {name for one in generations for name in one.names}
    return Needs(
        _digests(stored, generations),
        frozenset(revisions),
        frozenset(named - {repo for repo, _ in revisions}),
    )


def needed_caches(host: Host, stored: Stored, keep: int = 0) -> frozenset[str]:
    """Return the names of the compile caches that this Spark needs."""
    generations = tuple(needed_generations(stored, keep))
    named = {path for one in generations for path in one.caches}
    named |= {path for container in stored.containers for path in container.caches}
    return frozenset(
        {digest.removeprefix("sha256:")[:12] for digest in _digests(stored, generations)}
        | {render_service.cache_directory(host, service).rsplit("/", 1)[1] for service in host.services}
        | {cache.name for cache in stored.caches if cache.path in named}
    )


def in_use(image: StoredImage, stored: Stored) -> bool:
    """Return whether any container on this Spark, in any state, was created from an image."""
    return any(container.image_id == image.id for container in stored.containers)


def _digests(stored: Stored, generations: Iterable[StoredGeneration]) -> frozenset[str]:
    """Return the images of these generations and of every container, by digest."""
    images = (image for image in stored.images if in_use(image, stored))
    return digests_of(one.image for one in generations) | digests_of(r for i in images for r in i.refs)
