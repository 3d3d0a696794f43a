"""An image tag as what it means now: index digest, the linux/arm64 manifest below it, and its settings."""

from __future__ import annotations

import re
from typing import Any

from sparkfleet.config.locked import LockedImage
from sparkfleet.config.resolved import ImageRef
from sparkfleet.engines.base import Engine
from sparkfleet.lock.registry import Content, Registry, RegistryError


def resolve(image: ImageRef, registry: Registry, engine: Engine) -> LockedImage:
    """Return the image pinned. Raise ``RegistryError``: not there, not allowed, no linux/arm64 in it, ..."""
    index = registry.manifest(image.repository, image.digest or image.tag)
    manifest = _arm64(index, image, registry)
    described = manifest.data.get("config")
    if not isinstance(described, dict) or "digest" not in described:
        raise RegistryError(
            f"{image.display} has a manifest of a kind that is not known", "is it a container image?"
        )
    config = registry.blob(image.repository, described["digest"]).data
    if index is manifest:
        system = f"{config.get('os', 'linux')}/{config.get('architecture', '?')}"
        if system != "linux/arm64":
            raise _no_arm64(image, [system])
    settings = config.get("config") or {}
    entrypoint = tuple(settings.get("Entrypoint") or ())
    env = tuple(sorted(_env(settings)))
    return LockedImage(
        image=ImageRef(
            repository=image.repository,
            tag=image.tag,
            digest=index.digest,
            entrypoint=entrypoint,
            engine_version=engine.image_version(image, dict(env), settings.get("Labels") or {}),
            size=_size(manifest.data),
        ),
        arm64=manifest.digest,
        created=_seconds(str(config.get("created") or "")),
        env=env,
    )


def _arm64(index: Content, image: ImageRef, registry: Registry) -> Content:
    manifests = index.data.get("manifests")
    if not isinstance(manifests, list):
        return index
    systems = []
    for entry in manifests:
        platform = entry.get("platform") or {}
        system = f"{platform.get('os')}/{platform.get('architecture')}"
        if system == "linux/arm64" and platform.get("variant", "v8") == "v8":
            return registry.manifest(image.repository, entry["digest"])
        if system != "unknown/unknown":  # attestations
            systems.append(system)
    raise _no_arm64(image, systems)


def _no_arm64(image: ImageRef, systems: list[str]) -> RegistryError:
    has = ", ".join(systems) or "nothing that runs"
    return RegistryError(
        f"{image.display} has no linux/arm64, which a Spark needs; it has {has}",
        "choose a tag for arm64 (often with -aarch64, or a multi-arch one)",
    )


def _size(manifest: dict[str, Any]) -> int:
    layers = manifest.get("layers") or []
    return int(manifest["config"].get("size", 0)) + sum(int(layer.get("size", 0)) for layer in layers)


def _env(settings: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [entry.partition("=")[::2] for entry in settings.get("Env") or ()]
    # A control character (a coloured prompt) is nothing that the lock file could hold, nor that matters.
    return [(name, value) for name, value in pairs if name and value.isprintable()]


def _seconds(created: str) -> str:
    """Return a date-time without its fraction of a second."""
    return re.sub(r"\.\d+", "", created)
