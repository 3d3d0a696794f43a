"""Pin a fleet: what the lock file lacks is resolved, what is asked to move is resolved anew, the rest stays.

One entry's failure is that entry's: it keeps what it had, and the others are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from sparkfleet import engines
from sparkfleet.config.locked import (
    Lock,
    LockedImage,
    LockedModel,
    LockedPackages,
    image_key,
    model_key,
    packages_key,
)
from sparkfleet.config.required_packages import lacking
from sparkfleet.config.resolved import Fleet, ImageRef, PackageIndex, Service, Weights
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import DEFAULT_ENGINE
from sparkfleet.lock import images, packages
from sparkfleet.lock.hub import Hub, HubError
from sparkfleet.lock.registry import Registry, RegistryError
from sparkfleet.suggest import did_you_mean

WORKERS = 4

Entry = LockedImage | LockedModel | LockedPackages
"""One entry of the lock file."""


@dataclass(frozen=True)
class Change:
    """One entry before and after; None where there was or is none."""

    key: str
    old: Entry | None
    new: Entry | None


@dataclass(frozen=True)
class Outcome:
    """What locking came to: the lock to write, what changed, and what could not be resolved."""

    lock: Lock
    changes: tuple[Change, ...]
    diagnostics: tuple[Diagnostic, ...]


@dataclass
class LockTarget:
    """One thing that the fleet wants pinned."""

    place: str
    """Where it is written first."""
    names: set[str] = field(default_factory=set)
    """What ``--update`` may call it."""
    engine: str = DEFAULT_ENGINE
    """Engine of the first service that needs it."""


@dataclass
class ImageTarget(LockTarget):
    """A tag whose digest the lock file pins."""

    image: ImageRef = ImageRef("")  # noqa: RUF009  (frozen)


@dataclass
class ModelTarget(LockTarget):
    """A repository whose commit and files the lock file pins."""

    repo: str = ""
    asked: str = ""
    file: str = ""
    """Pattern of the file, for engines that serve one file of a repository."""


@dataclass
class PackagesTarget(LockTarget):
    """Packages that are added to an image, whose versions and hashes the lock file pins."""

    image: ImageRef = ImageRef("")  # noqa: RUF009  (frozen)
    needs: tuple[tuple[str, str], ...] = ()


Resolved = Entry | Diagnostic


def lock(
    fleet: Fleet,
    old: Lock,
    hub: Hub,
    registry: Callable[[], Registry],
    update: Sequence[str] = (),
) -> Outcome:
    """Return the new lock of a fleet that was loaded without pins. Asks registries and hub; writes nothing.

    ``update`` names what to resolve anew: an image, repository, recipe or service, or a pattern (``*``: all).
    """
    images, models = lock_targets(fleet)
    package_needs = package_targets(fleet)
    everything: dict[str, LockTarget] = {**images, **models, **package_needs}
    moving, diagnostics = _moving(everything, update)
    tasks: dict[str, Callable[[], Resolved]] = {}
    for key, item in images.items():
        if key in moving or key not in old.images:
            tasks[key] = lambda item=item: _image(item, registry)  # type: ignore[misc]
    for key, model in models.items():
        if key in moving or key not in old.models:
            tasks[key] = lambda model=model: _model(model, hub)  # type: ignore[misc]
    results = _carried_out(tasks)
    new_images = {key: old.images[key] for key in images if key in old.images}
    new_models = {key: old.models[key] for key in models if key in old.models}
    for key, result in results.items():
        if isinstance(result, LockedImage):
            new_images[key] = result
        elif isinstance(result, LockedModel):
            new_models[key] = result
    results |= _packages(package_needs, Lock(new_images), old, fleet.index, moving)
    diagnostics += [result for result in results.values() if isinstance(result, Diagnostic)]
    new_packages = {key: entry for key, entry in old.packages.items() if key in results}
    new_packages |= {key: entry for key, entry in results.items() if isinstance(entry, LockedPackages)}
    new = Lock(new_images, new_models, new_packages)
    return Outcome(new, tuple(_changes(old, new)), tuple(diagnostics))


def _carried_out(tasks: dict[str, Callable[[], Resolved]]) -> dict[str, Resolved]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(tasks, pool.map(lambda task: task(), tasks.values()), strict=True))


def lock_targets(fleet: Fleet) -> tuple[dict[str, ImageTarget], dict[str, ModelTarget]]:
    """Return every image and model repository that the fleet names, by the keys of the lock file."""
    images: dict[str, ImageTarget] = {}
    models: dict[str, ModelTarget] = {}
    for host in fleet.hosts:
        for service in host.services:
            origin = dict(service.origin)
            image = service.image
            item = images.setdefault(
                image_key(image), ImageTarget(origin["image"], engine=service.engine, image=image)
            )
            item.names |= _names(service) | {
                image.display,
                image.repository,
                image.display.rpartition(":")[0],
            }
            extra = engines.get(service.engine).extra_models(dict(service.flags))
            flags = {one.repo: f"flags.{one.flag}" for one in extra}
            for weights in (service.weights, *service.drafters):
                key = model_key(weights.repo, weights.revision, weights.file)
                place = origin["model"] if weights is service.weights else origin[flags[weights.repo]]
                place = origin["file"] if weights.file else place
                target = ModelTarget(place, engine=service.engine, repo=weights.repo, file=weights.file)
                target.asked = weights.revision
                model = models.setdefault(key, target)
                model.names |= _names(service) | _repo_names(weights)
    return images, models


def package_targets(fleet: Fleet) -> dict[str, PackagesTarget]:
    """Return what Python packages services need, by all needs: which of them lack is not known yet."""
    found: dict[str, PackagesTarget] = {}
    for service in (service for host in fleet.hosts for service in host.services):
        if service.requires_packages:
            key = packages_key(service.image, service.requires_packages)
            place = dict(service.origin)["image"]
            made = PackagesTarget(
                place, engine=service.engine, image=service.image, needs=service.requires_packages
            )
            item = found.setdefault(key, made)
            item.names |= _names(service) | {name for name, _ in service.requires_packages}
    return found


def _packages(
    lock_targets: dict[str, PackagesTarget], new: Lock, old: Lock, index: PackageIndex, moving: set[str]
) -> dict[str, Resolved]:
    """Return the packages that images lack: as locked before, or chosen anew where something of it moved."""
    kept: dict[str, Resolved] = {}
    tasks: dict[str, Callable[[], Resolved]] = {}
    for name, item in lock_targets.items():
        image = new.images.get(image_key(item.image))
        engine = engines.get(item.engine)
        absent = lacking(replace(image.image, tag=item.image.tag), item.needs, engine) if image else ()
        if image is None or not absent:
            continue
        key = packages_key(item.image, absent)
        had = old.packages.get(key)
        same = had and (had.python, had.machine) == (index.python, index.machine)
        if had and same and old.images.get(image_key(item.image)) == image and name not in moving:
            kept[key] = had
        else:
            version = image.image.engine_version
            tasks[key] = lambda item=item, absent=absent, version=version: _choose(  # type: ignore[misc]
                item, absent, version, index
            )
    return kept | _carried_out(tasks)


def _choose(
    item: PackagesTarget, absent: tuple[tuple[str, str], ...], version: str, index: PackageIndex
) -> Resolved:
    try:
        return packages.resolve(absent, engines.get(item.engine).image_packages(version), index)
    except packages.PackagesError as error:
        names = ", ".join(name for name, _ in absent)
        expected = f"wheels of {names} for Python {index.python} on {index.machine}"
        return Diagnostic(item.place, error.found, expected, error.remedy, code="lock-packages-unresolved")


def _names(service: Service) -> set[str]:
    return {service.name, service.recipe} - {""}


def _repo_names(weights: Weights) -> set[str]:
    return {weights.repo, weights.repo.rpartition("/")[2]}


def _moving(everything: dict[str, LockTarget], update: Iterable[str]) -> tuple[set[str], list[Diagnostic]]:
    moving: set[str] = set()
    diagnostics = []
    for name in update:
        found = {
            key
            for key, item in everything.items()
            if any(fnmatchcase(called, name) for called in (key, *item.names))
        }
        moving |= found
        if not found:
            known = sorted({called for key, item in everything.items() for called in (key, *item.names)})
            remedy = did_you_mean(name, known, f"one of: {', '.join(sorted(everything))}")
            found_text = f"nothing in this fleet is called '{name}'"
            diagnostics.append(
                Diagnostic(
                    "--update",
                    found_text,
                    "an image, repository, recipe or service",
                    remedy,
                    code="lock-update-unknown",
                )
            )
    return moving, diagnostics


def _image(item: ImageTarget, registry: Callable[[], Registry]) -> Resolved:
    reader = registry()
    try:
        found = images.resolve(item.image, reader, engines.get(item.engine))
    except RegistryError as error:
        return Diagnostic(
            item.place, error.found, "an image that can be pinned", error.remedy, code="lock-image-unresolved"
        )
    finally:
        reader.close()
    # The key says the tag; an entry that was asked for by digest has none.
    tag = "" if item.image.digest else item.image.tag
    return replace(found, image=replace(found.image, tag=tag))


def _model(item: ModelTarget, hub: Hub) -> Resolved:
    try:
        return hub.resolve(item.repo, item.asked, item.engine, item.file)
    except HubError as error:
        return Diagnostic(
            item.place,
            error.found,
            "a repository that can be pinned",
            error.remedy,
            code="lock-model-unresolved",
        )


def _changes(old: Lock, new: Lock) -> list[Change]:
    before: dict[str, Entry] = {**old.images, **old.models, **old.packages}
    after: dict[str, Entry] = {**new.images, **new.models, **new.packages}
    return [
        Change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
