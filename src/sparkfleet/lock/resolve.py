"""Pins a fleet: missing entries and those to update are resolved, all others stay.

If an entry cannot be resolved, it keeps its old value, and the others are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from sparkfleet import engines
from sparkfleet.config.lock_data import (
    Lock,
    LockedImage,
    LockedModel,
    LockedPackages,
    image_key,
    model_key,
    packages_key,
)
from sparkfleet.config.origin import user_place
from sparkfleet.config.required_packages import missing
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Fleet, ImageRef, PackageIndex, Service, Weights
from sparkfleet.lock import images, packages
from sparkfleet.lock.errors import HubError, PackagesError, RegistryError
from sparkfleet.lock.hub import Hub
from sparkfleet.lock.registry import Registry
from sparkfleet.suggest import did_you_mean

WORKERS = 4

Entry = LockedImage | LockedModel | LockedPackages
"""One entry of the lock file."""


@dataclass(frozen=True)
class Change:
    """An entry before and after; None if it did not or does not exist."""

    key: str
    old: Entry | None
    new: Entry | None


@dataclass(frozen=True)
class LockResult:
    """Result of locking: the new lock, the changes, and what could not be resolved."""

    lock: Lock
    changes: tuple[Change, ...]
    diagnostics: tuple[Diagnostic, ...]


@dataclass
class LockTarget:
    """An item that the fleet needs pinned."""

    place: str
    """``file:line`` of its first use."""
    names: set[str] = field(default_factory=set)
    """Names that ``--update`` accepts for it."""
    engine: str = engines.DEFAULT
    """Engine of the first service that needs it."""


@dataclass
class ImageTarget(LockTarget):
    """A tag whose digest the lock file pins."""

    image: ImageRef = ImageRef("")  # noqa: RUF009  (frozen)


@dataclass
class ModelTarget(LockTarget):
    """A repository whose commit and files the lock file pins."""

    repo: str = ""
    revision: str = ""
    file: str = ""
    """Pattern of the file, for engines that serve one file of a repository."""


@dataclass
class PackagesTarget(LockTarget):
    """Packages that are added to an image, whose versions and hashes the lock file pins."""

    image: ImageRef = ImageRef("")  # noqa: RUF009  (frozen)
    needs: tuple[tuple[str, str], ...] = ()


Resolved = Entry | Diagnostic

WITHOUT_PINS = frozenset(
    {
        "cluster-too-small",
        "flag-reserved",
        "gate-expectation-mismatch",
        "gate-task-unsupported",
        "host-address-duplicate",
        "memory-overcommitted",
        "mount-target-taken",
        "port-conflict",
        "secret-exposed",
        "service-name-reserved",
        "service-name-taken",
        "tokenizer-missing",
        "variable-name-invalid",
        "variable-reserved",
    }
)
"""Codes of errors in a declaration that change no image, model or package of it."""


def lock(
    fleet: Fleet,
    old: Lock,
    hub: Hub,
    registry: Callable[[], Registry],
    update: Sequence[str] = (),
) -> LockResult:
    """Return the new lock of a fleet that was loaded without pins; reads registries and hub, writes nothing.

    ``update``: names of images, repositories, recipes or services to resolve again, or patterns (``*``: all).
    """
    images, models = lock_targets(fleet)
    package_needs = package_targets(fleet)
    everything: dict[str, LockTarget] = {**images, **models, **package_needs}
    updating, diagnostics = _to_update(everything, update)
    tasks: dict[str, Callable[[], Resolved]] = {}
    for key, item in images.items():
        if key in updating or key not in old.images:
            tasks[key] = lambda item=item: _image(item, registry)  # type: ignore[misc]
    for key, model in models.items():
        if key in updating or key not in old.models:
            tasks[key] = lambda model=model: _model(model, hub)  # type: ignore[misc]
    results = _run(tasks)
    new_images = {key: old.images[key] for key in images if key in old.images}
    new_models = {key: old.models[key] for key in models if key in old.models}
    for key, result in results.items():
        if isinstance(result, LockedImage):
            new_images[key] = result
        elif isinstance(result, LockedModel):
            new_models[key] = result
    results |= _packages(package_needs, Lock(new_images), old, fleet.index, updating)
    diagnostics += [result for result in results.values() if isinstance(result, Diagnostic)]
    new_packages = {key: entry for key, entry in old.packages.items() if key in results}
    new_packages |= {key: entry for key, entry in results.items() if isinstance(entry, LockedPackages)}
    new = Lock(new_images, new_models, new_packages)
    return LockResult(new, tuple(_changes(old, new)), tuple(diagnostics))


def _run(tasks: dict[str, Callable[[], Resolved]]) -> dict[str, Resolved]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(tasks, pool.map(lambda task: task(), tasks.values()), strict=True))


def lock_targets(fleet: Fleet) -> tuple[dict[str, ImageTarget], dict[str, ModelTarget]]:
    """Return every image and model repository of the fleet, by the keys of the lock file."""
    images: dict[str, ImageTarget] = {}
    models: dict[str, ModelTarget] = {}
    for host in fleet.hosts:
        for service in host.services:
            origin = dict(service.origin)
            image = service.image
            if image is not None:
                target = ImageTarget(user_place(origin, "image"), engine=service.engine, image=image)
                item = images.setdefault(image_key(image), target)
                short = image.display
                item.names |= _names(service) | {short, image.repository, short.rpartition(":")[0]}
            extra = engines.get(service.engine).extra_models(dict(service.flags))
            flags = {one.repo: f"flags.{one.flag}" for one in extra}
            for weights in (service.weights, *service.drafters):
                key = model_key(weights.repo, weights.revision, weights.file)
                named = "model" if weights is service.weights else flags[weights.repo]
                place = user_place(origin, "file" if weights.file else named)
                new = ModelTarget(place, engine=service.engine, repo=weights.repo, file=weights.file)
                new.revision = weights.revision
                model = models.setdefault(key, new)
                model.names |= _names(service) | _repo_names(weights)
    return images, models


def package_targets(fleet: Fleet) -> dict[str, PackagesTarget]:
    """Return the Python packages that services require; which of them an image lacks is not known yet."""
    found: dict[str, PackagesTarget] = {}
    for service in (service for host in fleet.hosts for service in host.services):
        if service.requires_packages and service.image:
            key = packages_key(service.image, service.requires_packages)
            place = user_place(dict(service.origin), "image")
            made = PackagesTarget(
                place, engine=service.engine, image=service.image, needs=service.requires_packages
            )
            item = found.setdefault(key, made)
            item.names |= _names(service) | {name for name, _ in service.requires_packages}
    return found


def _packages(
    lock_targets: dict[str, PackagesTarget], new: Lock, old: Lock, index: PackageIndex, updating: set[str]
) -> dict[str, Resolved]:
    """Return the packages that images lack: the current entry, or a new one if image or index changed."""
    current: dict[str, Resolved] = {}
    tasks: dict[str, Callable[[], Resolved]] = {}
    for name, item in lock_targets.items():
        image = new.images.get(image_key(item.image))
        engine = engines.get(item.engine)
        absent = missing(replace(image.image, tag=item.image.tag), item.needs, engine) if image else ()
        if image is None or not absent:
            continue
        key = packages_key(item.image, absent)
        previous = old.packages.get(key)
        same = previous and (previous.python, previous.machine) == (index.python, index.machine)
        if previous and same and old.images.get(image_key(item.image)) == image and name not in updating:
            current[key] = previous
        else:
            version = image.image.engine_version
            tasks[key] = lambda item=item, absent=absent, version=version: _packages_entry(  # type: ignore[misc]
                item, absent, version, index
            )
    return current | _run(tasks)


def _packages_entry(
    item: PackagesTarget, absent: tuple[tuple[str, str], ...], version: str, index: PackageIndex
) -> Resolved:
    try:
        return packages.resolve(absent, engines.get(item.engine).image_packages(version), index)
    except PackagesError as error:
        names = ", ".join(name for name, _ in absent)
        expected = f"wheels of {names} for Python {index.python} on {index.machine}"
        return replace(error.diagnostic, location=item.place, expected=expected)


def _names(service: Service) -> set[str]:
    return {service.name, service.recipe} - {""}


def _repo_names(weights: Weights) -> set[str]:
    return {weights.repo, weights.repo.rpartition("/")[2]}


def _to_update(everything: dict[str, LockTarget], update: Iterable[str]) -> tuple[set[str], list[Diagnostic]]:
    updating: set[str] = set()
    diagnostics = []
    for name in update:
        keys = {
            key
            for key, item in everything.items()
            if any(fnmatchcase(called, name) for called in (key, *item.names))
        }
        updating |= keys
        if not keys:
            names = sorted({called for key, item in everything.items() for called in (key, *item.names)})
            remedy = did_you_mean(name, names, f"one of: {', '.join(sorted(everything))}")
            found_text = f"'{name}' matches nothing in this fleet"
            diagnostics.append(
                Diagnostic(
                    "--update",
                    found_text,
                    "an image, repository, recipe or service",
                    remedy,
                    code="lock-update-unknown",
                )
            )
    return updating, diagnostics


def _image(item: ImageTarget, registry: Callable[[], Registry]) -> Resolved:
    reader = registry()
    try:
        found = images.resolve(item.image, reader, engines.get(item.engine))
    except RegistryError as error:
        return replace(error.diagnostic, location=item.place, expected="an image that can be resolved")
    finally:
        reader.close()
    # An image that is declared by digest has no tag.
    tag = "" if item.image.digest else item.image.tag
    return replace(found, image=replace(found.image, tag=tag))


def _model(item: ModelTarget, hub: Hub) -> Resolved:
    try:
        return hub.resolve(item.repo, item.revision, item.engine, item.file)
    except HubError as error:
        return replace(error.diagnostic, location=item.place, expected="a repository that can be resolved")


def _changes(old: Lock, new: Lock) -> list[Change]:
    before: dict[str, Entry] = {**old.images, **old.models, **old.packages}
    after: dict[str, Entry] = {**new.images, **new.models, **new.packages}
    return [
        Change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
