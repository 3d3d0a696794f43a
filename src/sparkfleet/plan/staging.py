"""Staging: image and weight files that must be on the host before anything stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sparkfleet import runtimes
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import RUNTIME_MIB
from sparkfleet.desired_state import Host, ImageRef, Service, WeightFile, Weights
from sparkfleet.onhost.artifacts.fetch.rates import COPY, DOWNLOAD, PULL
from sparkfleet.onhost.artifacts.image.image_refs import LABEL_DERIVED
from sparkfleet.plan.artifacts import Artifact, ArtifactType
from sparkfleet.plan.model import Note, Step
from sparkfleet.plan.operations import BuildImage, FetchOperation, FetchWeights, FileToFetch, PullImage
from sparkfleet.plan.reclaimable import reclaimable
from sparkfleet.probe.observation import Observed
from sparkfleet.runtimes.observation import ObservedImage
from sparkfleet.units import size

UNPACK_FACTOR = 3
"""An unpacked image needs about this many times its compressed size, the download included."""

SPARE_BYTES = 64 << 20
"""Bytes that remain free on a disk for journal, state and logs."""


def artifacts(service: Service, observed: Observed) -> list[Artifact]:
    """Return a service's image and models with their state on the host."""
    return [
        *([image_artifact(service.image, observed)] if service.image else []),
        *(weights_artifact(weights, observed) for weights in service.repositories),
    ]


def image_artifact(image: ImageRef, observed: Observed) -> Artifact:
    """Return the image's state: identified by its digest, a derived one by name and label."""
    present = present_image(image, observed)
    free, rates = observed.disks["images"].free, _rates(observed, PULL)
    whole, identity = present is not None, present.build if present else ""
    registry_layers = present.has_registry_layers if present else observed.registry_layers
    if image.derived_packages is None:
        have, missing = (present.size, 0) if present else (0, image.size)
        pulled = Artifact(
            ArtifactType.IMAGE, image.pull_ref, whole, have, missing, free, *rates, identity=identity
        )
        return replace(pulled, registry_layers=registry_layers)
    base = observed.images.get(image.base.pull_ref)
    have = present.size if present else base.size if base else 0
    missing = 0 if present else image.derived_packages.size + (0 if base else image.size)
    made = Artifact(ArtifactType.IMAGE, image.pull_ref, whole, have, missing, free, *rates)
    # Also of a derived one: with the layers of its base as another store has them, containerd would take a
    # later pull of that base for complete.
    return replace(made, derived=True, identity=identity, registry_layers=registry_layers)


def present_image(image: ImageRef, observed: Observed) -> ObservedImage | None:
    """Return the image on the Spark; None if missing, or if its name belongs to another image."""
    present = observed.images.get(image.pull_ref)
    if present is None or image.derived_packages is None:
        return present
    return present if present.labels.get(LABEL_DERIVED) == image.pull_ref.rpartition(":")[2] else None


def weights_artifact(weights: Weights, observed: Observed) -> Artifact:
    """Return a model's state: how much of its commit is present as locked."""
    wrong = wrong_files(weights, observed)
    missing = sum(file.size for file, _ in wrong.values())
    return Artifact(
        ArtifactType.MODEL,
        weights_key(weights),
        not wrong,
        weights.size - missing,
        missing,
        observed.disks["models"].free,
        *_rates(observed, DOWNLOAD),
    )


def _rates(observed: Observed, kind: str) -> tuple[int, int]:
    return observed.rates.get(kind, 0), observed.rates.get(COPY, 0)


def operations(service: Service, observed: Observed) -> list[FetchOperation]:
    """Return the fetches of a service: image, model and drafters, if incomplete."""
    image = image_operation(service.image, observed) if service.image else None
    weights = (weights_operation(one, observed) for one in service.repositories)
    return [one for one in (image, *weights) if one is not None]


def notes(service: Service, observed: Observed) -> list[Note]:
    """Return notes on the image: packages that its build adds."""
    image = service.image
    added = image.derived_packages if image else None
    if image is None or added is None or present_image(image, observed):
        return []
    return [Note(Step.IMAGE, "packages", text=", ".join(added.packages), remark=_LACKING)]


_LACKING = "where the image lacks them"


def image_operation(image: ImageRef, observed: Observed) -> PullImage | BuildImage | None:
    """Return the pull or build of an image; None when it is present."""
    artifact = image_artifact(image, observed)
    if artifact.complete:
        return None
    if image.derived_packages is None:
        return PullImage(artifact, image.display)
    return BuildImage(artifact, image.display, tuple(image.derived_packages.packages))


def weights_key(weights: Weights) -> str:
    """Return the artifact key: a repository at its commit, with the file if only one is fetched."""
    return f"{snapshot_key(weights)} {weights.file}" if weights.file else snapshot_key(weights)


def snapshot_key(weights: Weights) -> str:
    """Return the key of a repository's files in Observed."""
    return f"{weights.repo}@{weights.revision}"


def wrong_files(weights: Weights, observed: Observed) -> dict[str, tuple[WeightFile, str]]:
    """Return the files of the locked commit that are not present as locked, each with the reason.

    Partial: fewer bytes. Changed: more bytes, or another hash. Unexpected: linked to content that is not part
    of this commit.
    """
    have: Mapping[str, tuple[int, str]] = observed.weights.get(snapshot_key(weights), {})
    hashed = observed.hashed.get(snapshot_key(weights), {})
    wrong = {}
    for file in weights.files:
        size, blob = have.get(file.path, (None, ""))
        if size is None:
            wrong[file.path] = (file, "missing")
        elif size < 0:
            wrong[file.path] = (file, "link to nothing")
        elif blob and file.blob and blob != file.blob:
            wrong[file.path] = (file, "unexpected, not part of this commit")
        elif size < file.size:
            wrong[file.path] = (file, f"partial, {size} of {file.size} bytes")
        elif size > file.size:
            wrong[file.path] = (file, f"changed, {size} instead of {file.size} bytes")
        elif file.blob and hashed.get(file.path) == (file.blob, False):
            wrong[file.path] = (file, "changed, hash differs")
    return wrong


def weights_operation(weights: Weights, observed: Observed) -> FetchWeights | None:
    """Return the fetch of a model's files; None when all are present as locked."""
    wrong = wrong_files(weights, observed)
    if not wrong:
        return None
    return FetchWeights(
        weights_artifact(weights, observed),
        weights.repo,
        weights.revision,
        tuple(FileToFetch(path, file.size, found) for path, (file, found) in wrong.items()),
        len(weights.files),
        nothing_present=not observed.weights.get(snapshot_key(weights)),
    )


def _disks(service: Service, store: str) -> dict[str, tuple[str, str]]:
    """Return, by file system, what sparkfleet stores on it for a service, and how to free space there."""
    runtime = runtimes.get(service.runtime)
    stored = f"image and {runtime.noun}" if service.runtime in runtimes.of_containers() else runtime.noun
    return {
        "models": ("weights", "or put models_dir on another disk"),
        store: (stored, runtime.prune_command),
        "state": ("the journal of a rollout", "free some space"),
    }


def _prunable(host: Host, observed: Observed, names: list[str]) -> list[str]:
    found = reclaimable(host, observed)
    count = sum(found.get(name, 0) for name in names)
    return [f"sparkfleet prune INVENTORY (at most {size(count)} that sparkfleet fetched)"] if count else []


def disk_diagnostic(
    host: Host, service: Service, observed: Observed, *, rollout: bool = False
) -> Diagnostic | None:
    """Return why image and weights will not fit on the Spark's disks, with the bytes; None when they do.

    ``rollout``: a container is created, too.
    """
    missing = (wrong_files(weights, observed) for weights in service.repositories)
    needed = {"models": sum(file.size for files in missing for file, _ in files.values())}
    image, store = service.image, observed.disk_of(service.runtime)
    missing_image = image_artifact(image, observed).missing if image else 0
    if rollout or (image and present_image(image, observed) is None):
        needed[store] = missing_image * UNPACK_FACTOR + rollout * (RUNTIME_MIB << 20)
    needed["state"] = 0
    need: dict[tuple[int, int], list[str]] = {}
    for name in needed:
        disk = observed.disks[name]
        need.setdefault((disk.total, disk.free), []).append(name)  # same figures: the same file system
    for (_, free), names in need.items():
        count = SPARE_BYTES + sum(needed[name] for name in names)
        if free < count:
            path = observed.disks[names[0]].path
            stored, free_space = zip(*(_disks(service, store)[name] for name in names), strict=True)
            room = "; ".join([*_prunable(host, observed, names), *free_space])
            return Diagnostic(
                f"{host.name}: {path}",
                f"{size(free)} free, {size(count)} needed for {service.name} ({', '.join(stored)})",
                "enough space for everything before any engine stops",
                f"on {host.name}: df -h {path}; {room}; then run again",
                code="disk-full",
            )
    return None
