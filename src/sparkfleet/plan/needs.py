"""What a fleet needs on its disks: what is declared, what runs, and what a rollback goes back to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sparkfleet.config.resolved import Host
from sparkfleet.plan import desired
from sparkfleet.probe.stored import Stored, StoredGeneration, StoredImage

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|(?<=sparkfleet/derived:)[0-9a-f]{16}")
"""What tells an image from all others: its digest, or the hash of what it is derived from."""


@dataclass(frozen=True)
class Needs:
    """Images by digest, models by repository and commit: wanted somewhere in the fleet, so kept everywhere.

    A model that another Spark serves is kept here as well: it is what that Spark's copy can come from.
    """

    digests: frozenset[str] = frozenset()
    revisions: frozenset[tuple[str, str]] = frozenset()
    repositories: frozenset[str] = frozenset()
    """Of which every commit is kept, since nobody knows which one is needed."""

    def __or__(self, other: Needs) -> Needs:
        """Return the needs of both."""
        return Needs(
            self.digests | other.digests,
            self.revisions | other.revisions,
            self.repositories | other.repositories,
        )

    def has(self, repo: str, revision: str) -> bool:
        """Tell whether a model at a commit is needed."""
        return (repo, revision) in self.revisions or repo in self.repositories


def digests_of(names: Iterable[str]) -> frozenset[str]:
    """Return the digests in names of images; of derived ones their tags."""
    return frozenset(digest for word in names for digest in _DIGEST.findall(word))


def declared(host: Host) -> Needs:
    """Return what the host's file asks for."""
    return Needs(
        digests_of(name for service in host.services for name in service.image.names),
        frozenset((w.repo, w.revision) for service in host.services for w in service.repositories),
    )


def needed_generations(stored: Stored, keep: int = 0) -> Iterator[StoredGeneration]:
    """Yield what serves, what a rollback goes back to, and the newest ``keep`` others of each service."""
    for service in stored.services.values():
        if service.current is not None:
            yield service.current
        yield from service.last_good
        current = service.current.id if service.current else ""
        others = [one for one in service.generations if one.id != current]
        yield from others[-keep:] if keep else ()


def there(stored: Stored, keep: int = 0) -> Needs:
    """Return what runs or was last good on a Spark, and what any container there was made from.

    Read from the state, not from this disk: what a host lost can come from another one's copy.
    """
    generations = tuple(needed_generations(stored, keep))
    used = {path for one in generations for path in one.uses}
    used |= {path for container in stored.containers for path in container.uses}
    here = {
        (repository.repo, one.revision)
        for repository in stored.repositories
        for one in repository.revisions
        if one.path in used
    }
    known = here | {(one.model, one.revision) for one in generations}
    named = {name for one in generations for name in one.names}
    return Needs(
        _digests(stored, generations), frozenset(known), frozenset(named - {repo for repo, _ in known})
    )


def needed_caches(host: Host, stored: Stored, keep: int = 0) -> frozenset[str]:
    """Return the names of the compile caches that this very Spark needs."""
    generations = tuple(needed_generations(stored, keep))
    named = {path for one in generations for path in one.caches}
    named |= {path for container in stored.containers for path in container.caches}
    return frozenset(
        {digest.removeprefix("sha256:")[:12] for digest in _digests(stored, generations)}
        | {desired.cache_directory(host, service).rsplit("/", 1)[1] for service in host.services}
        | {cache.name for cache in stored.caches if cache.path in named}
    )


def in_use(image: StoredImage, stored: Stored) -> bool:
    """Tell whether a container on this Spark, whoever's and in whatever state, was made from an image."""
    return any(container.image_id == image.id for container in stored.containers)


def _digests(stored: Stored, generations: Iterable[StoredGeneration]) -> frozenset[str]:
    """Return the images of these generations and of every container, by digest."""
    images = (image for image in stored.images if in_use(image, stored))
    return digests_of(one.image for one in generations) | digests_of(r for i in images for r in i.refs)
