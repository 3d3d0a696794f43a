"""Resolves an image tag: digest of the index, the manifest for linux/arm64, settings of the image."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sparkfleet.config.lock_data import LockedImage
from sparkfleet.desired_state import ImageRef
from sparkfleet.engines.base import Engine
from sparkfleet.lock.documents import ContainerSettings, Descriptor, ImageConfig, Manifest, Platform
from sparkfleet.lock.errors import RegistryError
from sparkfleet.lock.registry import NOT_AN_IMAGE, Registry


def resolve(image: ImageRef, registry: Registry, engine: Engine) -> LockedImage:
    """Return the image pinned. Raise ``RegistryError``: missing, no access, not for linux/arm64, ..."""
    top = registry.manifest(image.repository, image.digest or image.tag)
    index = top.parse(Manifest)
    if index.manifests is None:
        content, manifest = top, index
    else:
        content = registry.manifest(image.repository, _arm64(index.manifests, image))
        manifest = content.parse(Manifest)
    if manifest.config is None:
        raise RegistryError(f"{image.display} has an unsupported type of manifest", NOT_AN_IMAGE)
    config = registry.blob(image.repository, manifest.config.digest).parse(ImageConfig)
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


def _arm64(manifests: Iterable[Descriptor], image: ImageRef) -> str:
    """Return the digest of the manifest for linux/arm64."""
    systems = []
    for entry in manifests:
        if entry.is_arm64:
            return entry.digest
        platform = entry.platform or Platform()
        systems.append(f"{platform.os}/{platform.architecture}")
    raise _no_arm64(image, systems)


def _no_arm64(image: ImageRef, systems: list[str]) -> RegistryError:
    # An attestation has the platform unknown/unknown.
    has = ", ".join(one for one in systems if one != "unknown/unknown") or "no platform"
    return RegistryError(
        f"{image.display} is not available for linux/arm64; it has {has}",
        "choose a tag for arm64 (often *-aarch64), or a multi-arch tag",
    )


def _env(settings: ContainerSettings) -> list[tuple[str, str]]:
    pairs = [entry.partition("=")[::2] for entry in settings.env or ()]
    # The lock file cannot contain control characters, as in a coloured prompt.
    return [(name, value) for name, value in pairs if name and value.isprintable()]


def _seconds(created: str) -> str:
    """Return a date-time without fractions of a second."""
    return re.sub(r"\.\d+", "", created)
