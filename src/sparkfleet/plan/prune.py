"""What a prune may remove from the disks of a fleet: what sparkfleet manages and nothing needs. Pure.

Managed are the images and models that the host's own record names as fetched, the compile caches, and the
state of services. Anything else is removed only when it is named, and never while something needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatch

from sparkfleet import runtimes
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.desired_state import Host
from sparkfleet.onhost.artifacts.image import image_refs
from sparkfleet.plan import needs
from sparkfleet.plan.compute import probe_request
from sparkfleet.plan.needs import Needs
from sparkfleet.probe.observation import Observed, WithoutRuntime
from sparkfleet.probe.stored import Stored, StoredGeneration, StoredImage, StoredRepository, StoredRevision
from sparkfleet.runtimes.errors import MISSING

OUR_CACHE = re.compile(r"[0-9a-f]{12}|unpinned")
"""Names of compile caches: digits of an image's digest."""


class Kind(StrEnum):
    """What an item is."""

    MODEL = "model"
    IMAGE = "image"
    CACHE = "compile cache"
    GENERATION = "generation"
    EVIDENCE = "evidence"


@dataclass(frozen=True)
class Item:
    """One item on one host that nothing needs."""

    kind: Kind
    name: str
    """As shown to people."""
    key: str
    """Path; of an image its id."""
    bytes: int
    """Bytes that its removal frees, at most: images share layers."""
    used: float = 0.0
    """Unix time of its arrival or last promotion; 0: not known."""
    ours: bool = True
    refs: tuple[str, ...] = ()
    """Of an image: the names to remove; of a model its repository and commit in full."""


@dataclass(frozen=True)
class PruneOptions:
    """The options of the command."""

    now: float
    older_than_s: float = 0.0
    """Seconds without use; younger items stay."""
    keep: int = 0
    """Generations of each service that stay beside the current one and the rollback's target."""
    include_unmanaged: tuple[str, ...] = ()
    """Names of images or models that may be removed although sparkfleet does not manage them."""
    exclude_hosts: frozenset[str] = frozenset()
    """Decommissioned hosts: what they may need is not kept."""


@dataclass(frozen=True)
class HostPrune:
    """What may be removed from one Spark."""

    host: str
    items: tuple[Item, ...] = ()
    unmanaged: tuple[Item, ...] = ()
    """Unmanaged items that nothing needs: listed, never removed."""
    diagnostic: Diagnostic | None = None

    @property
    def bytes(self) -> int:
        """Return the bytes that are freed, at most."""
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True)
class FleetPrune:
    """What may be removed from a fleet; ``unknown`` Sparks keep images and models everywhere."""

    hosts: tuple[HostPrune, ...]
    unknown: tuple[str, ...] = ()
    unpinned: tuple[str, ...] = ()
    """Services (``host: service``) without an entry in the lock file: what they need is unknown, too."""


Observations = tuple[Host, Observed | Diagnostic]


def prune_request(host: Host, *, images: bool = True) -> ProbeRequest:
    """Return what the probe must observe for a prune; images, although no service may need one any more."""
    request = replace(probe_request(host), stored=True)
    containers = runtimes.of_containers() if images else ()
    return replace(request, runtimes=tuple(sorted({*request.runtimes, *containers})))


def has_no_images(host: Host, seen: Observed | Diagnostic) -> bool:
    """Return whether a host is only unknown because a runtime is not installed that nothing declares."""
    if not isinstance(seen, WithoutRuntime) or seen.state != MISSING:
        return False
    return seen.runtime not in probe_request(host).runtimes


def fleet_prune(observations: Sequence[Observations], options: PruneOptions) -> FleetPrune:
    """Return what may be removed: nothing that any Spark declares, runs or could roll back to."""
    needed, unknown, unpinned = Needs(), [], []
    for host, observed in observations:
        if host.name not in options.exclude_hosts:
            unpinned += [f"{host.name}: {one.name}" for one in host.services if not one.is_pinned]
        needed |= needs.declared(host)
        diagnostic = _diagnostic(host, observed)
        if diagnostic is None:
            needed |= needs.of_host(_stored(observed), options.keep)
        elif host.name not in options.exclude_hosts:
            unknown.append(host.name)
    hosts, shared = [], not (unknown or unpinned)
    for host, observed in observations:
        diagnostic = _diagnostic(host, observed)
        if diagnostic is None:
            hosts.append(_host_prune(host, _stored(observed), needed, options, shared=shared))
        else:
            hosts.append(HostPrune(host.name, diagnostic=diagnostic))
    return FleetPrune(tuple(hosts), tuple(unknown), tuple(unpinned))


def _diagnostic(host: Host, observed: Observed | Diagnostic) -> Diagnostic | None:
    if isinstance(observed, Diagnostic):
        return observed
    if observed.unknown_needs:
        return combine(*observed.unknown_needs)
    if observed.rollout:
        message = f"a rollout is in progress ({observed.rollout})"
        return Diagnostic(
            host.name,
            message,
            "no rollout in progress",
            "wait for its end, then prune",
            code="rollout-in-progress",
        )
    return None


def _stored(observed: Observed | Diagnostic) -> Stored:
    assert not isinstance(observed, Diagnostic)  # noqa: S101  (checked before)
    return observed.stored or Stored()


def _host_prune(
    host: Host, stored: Stored, needed: Needs, options: PruneOptions, *, shared: bool
) -> HostPrune:
    local = [*_caches(host, stored, options), *_generations(stored, options), *_evidence(stored)]
    needed |= _of_staying_generations(stored, options)
    free = [*_images(stored, needed), *_models(stored, needed, options)] if shared else []
    old = [item for item in (*free, *local) if _is_due(item.used, options)]
    named = [item for item in old if item.ours or is_named(item, options.include_unmanaged)]
    rest = [item for item in old if item not in named]
    return HostPrune(host.name, _ordered(named), _ordered(rest))


def _of_staying_generations(stored: Stored, options: PruneOptions) -> Needs:
    """Return what the generations need that this prune does not remove: a rollback can start each of them."""
    gone = {item.key for item in _generations(stored, options) if _is_due(item.used, options)}
    stay = [
        one for service in stored.services.values() for one in service.generations if one.path not in gone
    ]
    models = frozenset((one.model, one.revision) for one in stay)
    return Needs(needs.digests_of(one.image for one in stay), models)


def _ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    rank = {kind: number for number, kind in enumerate(Kind)}
    return tuple(sorted(items, key=lambda item: (rank[item.kind], -item.bytes, item.name)))


def _is_due(used: float, options: PruneOptions) -> bool:
    """Return whether an item was unused for long enough; an unknown age is never old."""
    return not options.older_than_s or (used > 0 and options.now - used >= options.older_than_s)


def is_named(item: Item, names: Iterable[str]) -> bool:
    """Return whether a name matches this item: a model with or without commit, any name of an image."""
    known = {
        item.name,
        item.name.partition("@")[0],
        *item.refs,
        *(short_image_name(ref) for ref in item.refs),
    }
    return any(name in known or short_image_name(name) in known for name in names)


def short_image_name(reference: str) -> str:
    """Return an image's short name: without ``docker.io/``, with its original registry."""
    return re.sub(r"^docker\.io/(library/)?", "", image_refs.plain(reference))


def _images(stored: Stored, needed: Needs) -> Iterator[Item]:
    ours = {short_image_name(ref): staged for ref, staged in stored.staged_images.items()}
    for image in stored.images:
        if not image.refs or needs.in_use(image, stored) or needs.digests_of(image.refs) & needed.digests:
            continue
        known = {ref: ours[short_image_name(ref)] for ref in image.refs if short_image_name(ref) in ours}
        used = max([entry.at for entry in known.values()] + [_promoted(stored, image)])
        tagged = {ref.rpartition(":")[0] for ref in known if "@" not in ref}
        # A name of another owner makes it unmanaged. The containerd image store gives every repository of an
        # image a digest, too.
        is_ours = all(ref in known or ref.partition("@")[0] in tagged for ref in image.refs)
        name = min(image.refs, key=lambda ref: ("@" in ref, ref))
        yield Item(Kind.IMAGE, _short(name), image.id, image.bytes, used, is_ours, image.refs)


def _short(reference: str) -> str:
    name, _, digest = short_image_name(reference).partition("@")
    return f"{name}@{digest[:19]}" if digest else name


def _promoted(stored: Stored, image: StoredImage) -> float:
    digests = needs.digests_of(image.refs)
    return _newest(stored, lambda one: bool(needs.digests_of((one.image,)) & digests))


def _newest(stored: Stored, concerns: Callable[[StoredGeneration], bool]) -> float:
    remaining = [one for service in stored.services.values() for one in service.generations]
    return max((one.promoted_at for one in remaining if concerns(one)), default=0.0)


@dataclass(frozen=True)
class _Leaving:
    """Revisions to remove (repository's path, commit), and the shared files of the remaining ones."""

    revisions: frozenset[tuple[str, str]]
    staying_files: frozenset[str] = frozenset()

    def stays(self, repository: StoredRepository) -> set[str]:
        """Return the blobs of a repository's remaining revisions."""
        remaining = [
            one for one in repository.revisions if (repository.path, one.revision) not in self.revisions
        ]
        return {name for one in remaining for name in one.blobs}


def _models(stored: Stored, needed: Needs, options: PruneOptions) -> Iterator[Item]:
    def is_free(repository: StoredRepository, one: StoredRevision) -> bool:
        return not needed.has(repository.repo, one.revision)

    def goes(repository: StoredRepository, one: StoredRevision) -> bool:
        repo = repository.repo
        named = {repo, f"{repo}@{one.revision}", f"{repo}@{one.revision[:12]}"} & set(
            options.include_unmanaged
        )
        allowed = one.path in stored.staged_revisions or bool(named)
        return is_free(repository, one) and allowed and _is_due(_revision_used(one, stored), options)

    leaving = _Leaving(
        frozenset(
            (at.path, one.revision) for at in stored.repositories for one in at.revisions if goes(at, one)
        )
    )
    files = (
        blob.shared
        for repository in stored.repositories
        for name in leaving.stays(repository)
        if (blob := repository.blobs.get(name)) and blob.shared
    )
    leaving = replace(leaving, staying_files=frozenset(files))
    for repository in stored.repositories:
        free = [one for one in repository.revisions if is_free(repository, one)]
        yield from _revisions(repository, free, leaving, stored)


def _revision_used(one: StoredRevision, stored: Stored) -> float:
    staged = stored.staged_revisions.get(one.path)
    promoted = _newest(stored, lambda generation: one.path in generation.uses)
    return max(one.changed, staged.at if staged else 0.0, promoted)


def _revisions(
    repository: StoredRepository, free: Sequence[StoredRevision], leaving: _Leaving, stored: Stored
) -> Iterator[Item]:
    """Yield the unneeded revisions. Bytes of each blob count once, those of remaining blobs not at all."""
    counted = leaving.stays(repository)
    all_go = all((repository.path, one.revision) in leaving.revisions for one in repository.revisions)
    last = free[-1] if free and all_go else None
    for one in free:
        if not one.changed and one is not last:
            continue  # recorded, but not on the disk
        names = set(repository.blobs) if one is last else set(one.blobs)
        fresh = [repository.blobs[name] for name in sorted(names - counted) if name in repository.blobs]
        if (repository.path, one.revision) in leaving.revisions:
            counted |= names
        yield Item(
            Kind.MODEL,
            f"{repository.repo}@{one.revision[:12]}",
            one.path,
            one.own + sum(blob.bytes for blob in fresh if blob.shared not in leaving.staying_files),
            _revision_used(one, stored),
            one.path in stored.staged_revisions,
            refs=(f"{repository.repo}@{one.revision}",),
        )


def _caches(host: Host, stored: Stored, options: PruneOptions) -> Iterator[Item]:
    needed = needs.needed_caches(host, stored, options.keep)
    for cache in stored.caches:
        if cache.name not in needed and OUR_CACHE.fullmatch(cache.name):
            yield Item(Kind.CACHE, cache.name, cache.path, cache.bytes, cache.changed)


def _generations(stored: Stored, options: PruneOptions) -> Iterator[Item]:
    remaining = {one.id for one in needs.needed_generations(stored, options.keep)}
    for name, service in stored.services.items():
        for one in service.generations:
            if one.id not in remaining:
                yield Item(Kind.GENERATION, f"{name} {one.id}", one.path, one.bytes, one.promoted_at)


def _evidence(stored: Stored) -> Iterator[Item]:
    for one in stored.evidence:
        yield Item(Kind.EVIDENCE, one.rollout, one.path, one.bytes, one.changed)


def limit_to(plan: FleetPrune, names: Iterable[str]) -> FleetPrune:
    """Return the plan of some Sparks; the needs of the others are already considered."""
    patterns = tuple(names)
    chosen = (host for host in plan.hosts if any(fnmatch(host.host, pattern) for pattern in patterns))
    return replace(plan, hosts=tuple(chosen))
