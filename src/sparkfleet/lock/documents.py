"""JSON of registries, the hub and pip, as models of the fields that are used; other keys are ignored."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class TokenResponse(_Document):
    """Response of a registry's token service."""

    token: str | None = None
    access_token: str | None = None

    @property
    def value(self) -> str:
        """Return the token; "" if the response has none."""
        return self.token or self.access_token or ""


class Platform(_Document):
    """Platform of a manifest in an index."""

    os: str = "?"
    architecture: str = "?"
    variant: str = ""


class Descriptor(_Document):
    """A reference to a manifest, a configuration or a layer."""

    digest: str
    size: int = 0
    platform: Platform | None = None

    @property
    def is_arm64(self) -> bool:
        """Return whether the manifest is for linux/arm64, the platform of a Spark."""
        platform = self.platform or Platform()
        system = (platform.os, platform.architecture)
        return system == ("linux", "arm64") and platform.variant in {"", "v8"}


class Manifest(_Document):
    """An index (``manifests``) or the manifest of one platform (``config``, ``layers``)."""

    media_type: str = Field(default="", validation_alias="mediaType")
    manifests: tuple[Descriptor, ...] | None = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Return configuration and layers, each digest once."""
        blobs = (*((self.config,) if self.config else ()), *(self.layers or ()))
        return tuple({blob.digest: blob for blob in blobs}.values())


class ContainerSettings(_Document):
    """Settings of the containers of an image."""

    model_config = ConfigDict(alias_generator=str.title)

    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None


class ImageConfig(_Document):
    """Configuration of an image for one platform."""

    os: str = "linux"
    architecture: str = "?"
    created: str | None = None
    config: ContainerSettings | None = None


class LayoutEntry(BaseModel):
    """An image in the index of an OCI image layout; other keys are kept when the index is written."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    annotations: dict[str, str] = {}


class LayoutIndex(_Document):
    """``index.json`` of an OCI image layout."""

    manifests: tuple[LayoutEntry, ...]


class ModelConfig(RootModel[dict[str, Any]]):
    """``config.json`` of a model: its keys depend on the architecture."""


class HfQuantConfig(_Document):
    """``hf_quant_config.json`` of a model that NVIDIA's Model Optimizer quantized."""

    quantization: dict[str, Any] | None = None


class _Archive(_Document):
    hash: str = ""
    """``sha256=...``: written by older releases of pip."""
    hashes: dict[str, str] = {}


class _Download(_Document):
    url: str
    archive_info: _Archive | None = None


class PipPackage(_Document):
    """A package that pip would install."""

    download_info: _Download


class PipReport(_Document):
    """Output of ``pip install --report``."""

    install: tuple[PipPackage, ...]


M = TypeVar("M", bound=BaseModel)


class DocumentError(ValueError):
    """A document has another shape than expected: source, field and reason."""


def parse(model: type[M], body: bytes | str, source: str) -> M:
    """Return the document. Raise ``DocumentError``, which never shows a value: it may be a secret."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise DocumentError(f"{source}: {field + ': ' if field else ''}{first['msg']}") from None
