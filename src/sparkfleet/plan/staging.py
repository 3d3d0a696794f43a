"""What must be on the Spark before anything stops: the image and each file of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sparkfleet.config.resolved import Host, ImageRef, Service, WeightFile, Weights
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.onhost.artifacts.fetch.rates import COPY, DOWNLOAD, PULL
from sparkfleet.onhost.artifacts.image.image_refs import LABEL_DERIVED
from sparkfleet.plan.freeable import freeable
from sparkfleet.plan.model import Change, Sign, Source, Step, Stock
from sparkfleet.plan.units import duration, size
from sparkfleet.probe.observed import ImageSeen, Observed

LISTED_FILES = 5
"""More differing files than this are counted instead of listed."""

UNPACK_FACTOR = 3
"""An unpacked image needs about this many times its compressed size, the download included."""

SPARE_BYTES = 64 << 20
"""Bytes that stay free on a disk for the Spark's own needs: journal, state, logs."""


def stock(service: Service, observed: Observed) -> list[Stock]:
    """Return what there is of a service's image and models."""
    return [
        image_stock(service.image, observed),
        *(weights_stock(weights, observed) for weights in service.repositories),
    ]


def image_stock(image: ImageRef, observed: Observed) -> Stock:
    """Return whether the image is there under its digest; a derived one: by its name and what it says."""
    here = image_here(image, observed)
    free, rates = observed.disks["docker"].free, _rates(observed, PULL)
    if image.derived_packages is None:
        have, missing = (here.size, 0) if here else (0, image.size)
        return Stock(Step.IMAGE, image.pull_ref, here is not None, have, missing, free, *rates)
    base = observed.images.get(image.base.pull_ref)
    have = here.size if here else base.size if base else 0
    missing = 0 if here else image.derived_packages.size + (0 if base else image.size)
    whole, identity = here is not None, here.id if here else ""
    made = Stock(Step.IMAGE, image.pull_ref, whole, have, missing, free, *rates)
    return replace(made, derived=True, identity=identity)


def image_here(image: ImageRef, observed: Observed) -> ImageSeen | None:
    """Return the image as it is on the Spark; None: it is not there, or its name was given to another."""
    here = observed.images.get(image.pull_ref)
    if here is None or image.derived_packages is None:
        return here
    return here if here.labels.get(LABEL_DERIVED) == image.pull_ref.rpartition(":")[2] else None


def weights_stock(weights: Weights, observed: Observed) -> Stock:
    """Return how much of a model at its commit is there as locked."""
    wrong = wrong_files(weights, observed)
    missing = sum(file.size for file, _ in wrong.values())
    return Stock(
        Step.WEIGHTS,
        weights_key(weights),
        not wrong,
        weights.size - missing,
        missing,
        observed.disks["models"].free,
        *_rates(observed, DOWNLOAD),
    )


def _rates(observed: Observed, kind: str) -> tuple[int, int]:
    return observed.rates.get(kind, 0), observed.rates.get(COPY, 0)


def origin(stock: Stock, source: Source) -> str:
    """Return where something comes from, in words."""
    if source.host:
        return f"from {source.host}{' over the fabric' if source.near else ''}"
    if stock.derived:
        return f"to build here{' from the offline mirror' if source.mirror else ''}"
    if source.mirror:
        return "from the offline mirror"
    return "to pull" if stock.step is Step.IMAGE else "to download"


def amount(stock: Stock, source: Source) -> str:
    """Return how much comes from where, how long that takes, and how much room there is then."""
    number = source.size or stock.missing
    count = f"{size(number)} " if number else ""
    rate = stock.copy_rate if source.host else stock.rate
    took = f" (about {duration(number / rate)})" if rate and number >= rate else ""
    if stock.step is Step.IMAGE:
        return f"{count}{origin(stock, source)}{took}, {size(stock.free)} free"
    left = f"{size(stock.free)} free, {size(max(0, stock.free - stock.missing))} after"
    return f"{count}{origin(stock, source)} before the stop{took}, {left}"


def image_changes(service: Service, observed: Observed) -> list[Change]:
    """Return the pull of the image, when it is not there under its digest."""
    found = image_stock(service.image, observed)
    if found.whole:
        return []
    new, note = service.image.display, amount(found, Source())
    derived_packages = service.image.derived_packages
    if derived_packages is None:
        return [Change(Step.IMAGE, Sign.ADD, "pull", new=new, note=note, item=found.key)]
    packages = ", ".join(derived_packages.packages)
    return [
        Change(Step.IMAGE, Sign.ADD, "build", new=new, note=note, item=found.key),
        Change(Step.IMAGE, Sign.NOTE, "packages", new=packages, note="as far as the image lacks them"),
    ]


def weights_key(weights: Weights) -> str:
    """Return the key of a repository's files in what was observed."""
    return f"{weights.repo}@{weights.revision}"


def wrong_files(weights: Weights, observed: Observed) -> dict[str, tuple[WeightFile, str]]:
    """Return the files of the locked commit that are not there as locked, each with what is wrong with it.

    Partial: it has fewer bytes. Changed: more bytes, or by its hash another content. Foreign: it is linked to
    a content that this commit does not have.
    """
    have: Mapping[str, tuple[int, str]] = observed.weights.get(weights_key(weights), {})
    hashed = observed.hashed.get(weights_key(weights), {})
    wrong = {}
    for file in weights.files:
        found, blob = have.get(file.path, (None, ""))
        if found is None:
            wrong[file.path] = (file, "missing")
        elif found < 0:
            wrong[file.path] = (file, "link to nothing")
        elif blob and file.blob and blob != file.blob:
            wrong[file.path] = (file, "foreign, not of this commit")
        elif found < file.size:
            wrong[file.path] = (file, f"partial, {found} of {file.size} bytes")
        elif found > file.size:
            wrong[file.path] = (file, f"changed, {found} instead of {file.size} bytes")
        elif file.blob and hashed.get(file.path) == (file.blob, False):
            wrong[file.path] = (file, "changed, by its hash another content")
    return wrong


def weight_changes(service: Service, observed: Observed) -> list[Change]:
    """Return the downloads of the model and its drafters."""
    return [change for weights in service.repositories for change in _downloads(weights, observed)]


def _downloads(weights: Weights, observed: Observed) -> list[Change]:
    """Return one line for a whole repository, a line a file for few."""
    wrong = wrong_files(weights, observed)
    if not wrong:
        return []
    item = weights_key(weights)
    nothing_there = not observed.weights.get(item)
    if nothing_there or len(wrong) > LISTED_FILES:
        what = weights.repo if nothing_there else f"{len(wrong)} of {len(weights.files)} files"
        note = amount(weights_stock(weights, observed), Source())
        return [Change(Step.WEIGHTS, Sign.ADD, "weights", new=what, note=note, item=item)]
    return [
        Change(
            Step.WEIGHTS,
            Sign.ADD if why == "missing" else Sign.CHANGE,
            "weights",
            path,
            old="" if why == "missing" else why,
            new=size(file.size),
            item=item,
        )
        for path, (file, why) in wrong.items()
    ]


_KEPT = {
    "models": ("weights", "or put models_dir on another disk"),
    "docker": ("image", "docker image prune"),
    "state": ("the diary of a change", "free some of it"),
}
"""File system -> what of ours lies on it, and how to make room there."""


def _prunable(host: Host, observed: Observed, names: list[str]) -> list[str]:
    found = freeable(host, observed)
    count = sum(found.get(name, 0) for name in names)
    return [f"sparkfleet prune INVENTORY (at most {size(count)} that it brought)"] if count else []


def disk_diagnostic(host: Host, service: Service, observed: Observed) -> Diagnostic | None:
    """Return why image and weights will not fit on the Spark's disks, with the bytes; None when they do."""
    missing = (wrong_files(weights, observed) for weights in service.repositories)
    wanted = {"models": sum(file.size for files in missing for file, _ in files.values())}
    if image_here(service.image, observed) is None:
        wanted["docker"] = image_stock(service.image, observed).missing * UNPACK_FACTOR
    wanted["state"] = 0
    need: dict[tuple[int, int], list[str]] = {}
    for name in wanted:
        disk = observed.disks[name]
        need.setdefault((disk.total, disk.free), []).append(name)  # same figures: the same file system
    for (_, free), names in need.items():
        count = SPARE_BYTES + sum(wanted[name] for name in names)
        if free < count:
            path = observed.disks[names[0]].path
            what = ", ".join(_KEPT[name][0] for name in names)
            room = "; ".join([*_prunable(host, observed, names), *(_KEPT[name][1] for name in names)])
            return Diagnostic(
                f"{host.name}: {path}",
                f"{size(free)} free, {size(count)} needed for {service.name} ({what})",
                "room for everything before anything stops",
                f"on {host.name}: df -h {path}; {room}; then run again",
            )
    return None
