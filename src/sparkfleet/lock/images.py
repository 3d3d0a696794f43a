"""An image tag as what it means now: index digest, the linux/arm64 manifest below it, and its settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel

from sparkfleet.config.locked import LockedImage
from sparkfleet.config.resolved import ImageRef
from sparkfleet.engines.base import Engine
from sparkfleet.lock import documents
from sparkfleet.lock.documents import ContainerSettings, Descriptor, ImageConfig, Manifest, Platform
from sparkfleet.lock.registry import Content, Registry, RegistryError

M = TypeVar("M", bound=BaseModel)


def resolve(image: ImageRef, registry: Registry, engine: Engine) -> LockedImage:
    """Return the image pinned. Raise ``RegistryError``: missing, no permission, not for linux/arm64, ..."""
    top = registry.manifest(image.repository, image.digest or image.tag)
    index = _parse(Manifest, top, image)
    if index.manifests is None:
        content, manifest = top, index
    else:
        content = registry.manifest(image.repository, _arm64(index.manifests, image))
        manifest = _parse(Manifest, content, image)
    if manifest.config is None:
        raise RegistryError(
            f"{image.display} has a manifest of a kind that is not known", "is it a container image?"
        )
    config = _parse(ImageConfig, registry.blob(image.repository, manifest.config.digest), image)
    system = f"{config.os}/{config.architecture}"
    if content is top and system != "linux/arm64":
        raise _no_arm64(image, [system])
    settings = config.config or ContainerSettings()
    env = tuple(sorted(_env(settings)))
    return LockedImage(
        image=ImageRef(
            repository=image.repository,
            tag=image.tag,
            digest=top.digest,
            entrypoint=settings.entrypoint or (),
            engine_version=engine.image_version(image, dict(env), settings.labels or {}),
            size=manifest.config.size + sum(layer.size for layer in manifest.layers or ()),
        ),
        arm64=content.digest,
        created=_seconds(config.created or ""),
        env=env,
    )


def _parse(model: type[M], content: Content, image: ImageRef) -> M:
    try:
        return documents.parse(model, content.body, f"{image.repository}@{content.digest}")
    except documents.DocumentError as error:
        raise RegistryError(str(error), "is it a container image?") from None


def _arm64(manifests: Iterable[Descriptor], image: ImageRef) -> str:
    """Return the digest of the manifest for linux/arm64."""
    systems = []
    for entry in manifests:
        platform = entry.platform or Platform()
        system = f"{platform.os}/{platform.architecture}"
        if system == "linux/arm64" and platform.variant in ("", "v8"):
            return entry.digest
        if system != "unknown/unknown":  # attestations
            systems.append(system)
    raise _no_arm64(image, systems)


def _no_arm64(image: ImageRef, systems: list[str]) -> RegistryError:
    has = ", ".join(systems) or "nothing that runs"
    return RegistryError(
        f"{image.display} has no linux/arm64, which a Spark needs; it has {has}",
        "choose a tag for arm64 (often with -aarch64, or a multi-arch one)",
    )


def _env(settings: ContainerSettings) -> list[tuple[str, str]]:
    pairs = [entry.partition("=")[::2] for entry in settings.env or ()]
    # A control character (a coloured prompt) is nothing that the lock file could hold, nor that matters.
    return [(name, value) for name, value in pairs if name and value.isprintable()]


def _seconds(created: str) -> str:
    """Return a date-time without its fraction of a second."""
    return re.sub(r"\.\d+", "", created)
