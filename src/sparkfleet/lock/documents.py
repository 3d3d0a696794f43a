"""JSON of registries and pip, as models of the fields that are read; other keys are ignored."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Platform(_Document):
    """What a manifest of an index runs on."""

    os: str = "?"
    architecture: str = "?"
    variant: str = ""


class Descriptor(_Document):
    """A reference to a manifest, a configuration or a layer."""

    digest: str
    size: int = 0
    platform: Platform | None = None


class Manifest(_Document):
    """An index (``manifests``) or the manifest of one platform (``config``, ``layers``)."""

    manifests: tuple[Descriptor, ...] | None = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None


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
    """A document has another shape than expected: its source, the field, and what is wrong there."""


def parse(model: type[M], body: bytes | str, source: str) -> M:
    """Return the document. Raise ``DocumentError``, which never shows a value: it may be a secret."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise DocumentError(f"{source}: {field + ': ' if field else ''}{first['msg']}") from None
