"""Requests to fetch images and model files to a host, to hash and to remove them, and how they end.

All of them are jobs of one kind: a directory ``jobs/<id>/`` with request, events and result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sparkfleet.contract.codec import Document, Json, Migration, secret

STAGED, FAILED, LOST = "staged", "failed", "lost"
"""Outcomes of a job."""


@dataclass(frozen=True)
class LoginUser:
    """Who owns models and caches on the host."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class ModelFile:
    """A file of a model repository; ``blob`` is the name of its content (SHA-256 or git's id)."""

    path: str
    size: int
    blob: str
    number: int = 0
    """At the sender of a copy."""


@dataclass(frozen=True)
class ModelDownload:
    """Files of a model at one commit, from the hub."""

    repo: str
    revision: str
    models_dir: str
    files: tuple[ModelFile, ...]
    image: str = ""
    """Image whose ``hf`` downloads."""
    endpoint: str = ""
    hub_client: str = "hf"
    """"" where the image has none."""


@dataclass(frozen=True)
class SenderPlace:
    """Who sends a copy, and where it listens: distance, address and port each."""

    sender: str
    listeners: tuple[tuple[int, str, int], ...]


@dataclass(frozen=True)
class ModelCopy(SenderPlace):
    """Files of a model at one commit, from another host or from the operator's machine."""

    repo: str
    revision: str
    models_dir: str
    files: tuple[ModelFile, ...]


@dataclass(frozen=True)
class ImageCopy(SenderPlace):
    """An image from another host, as the file that ``docker save`` wrote there."""

    image: str
    size: int
    sha256: str
    id: str = ""
    """Of a derived image: it has no registry, and is known by its id."""
    manifests: tuple[str, ...] = ()
    """Base64, from the index down, where no registry is to be asked."""


@dataclass(frozen=True)
class Content:
    """A file of an image by its digest."""

    digest: str
    size: int


@dataclass(frozen=True)
class MirroredImage(SenderPlace):
    """An image from the offline mirror, content by content in the order of the sender's files."""

    image: str
    contents: tuple[Content, ...]


@dataclass(frozen=True)
class WheelFile:
    """A wheel by its hash; ``number``: at the sender, where the mirror sends it."""

    name: str
    url: str
    sha256: str
    size: int = 0
    number: int = 0


@dataclass(frozen=True)
class ImageBuild:
    """A derived image: packages installed into a base."""

    image: str
    base: str
    install: tuple[str, ...]
    wheels: tuple[WheelFile, ...]
    labels: Mapping[str, str]
    carried: SenderPlace | None = None
    """Who sends the wheels; None: they come from their URLs."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model at one commit that are hashed."""

    repo: str
    revision: str
    files: tuple[ModelFile, ...]


@dataclass(frozen=True)
class VerifyRequest:
    """Hash model files; ``again``: those with a known hash, too."""

    models_dir: str
    repositories: tuple[ModelFiles, ...]
    again: bool = False


@dataclass(frozen=True)
class PruneItem:
    """One thing to remove."""

    kind: str
    name: str
    key: str = ""
    refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class PruneRequest:
    """Remove these items if services and containers are what they were when the list was shown."""

    models_dir: str
    cache_dir: str
    books: Mapping[str, str]
    """Service -> SHA-256 of its record."""
    containers: Mapping[str, str]
    """Container id -> image id."""
    items: tuple[PruneItem, ...]


def _named_secrets(data: Json) -> Json:
    """Migrate version 1: ``token`` was the hub's for downloads, and a copy's key for copies."""
    token = data.pop("token", "")
    copies = any(data.get(kind) for kind in ("copies", "image_copies", "carried_images"))
    data["transfer_key" if copies else "hub_token"] = token
    return data


@dataclass(frozen=True)
class StageRequest(Document):
    """What a job fetches, hashes or removes: ``jobs/<id>/request.json``, without its secrets."""

    NAME = "stage request"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _named_secrets}

    id: str
    user: LoginUser | None = None
    images: tuple[str, ...] = ()
    unless: str = ""
    """A derived image that makes a pull of ``images`` needless."""
    ask: tuple[ModelDownload, ...] = ()
    """Models whose licence is checked before anything is downloaded."""
    weights: tuple[ModelDownload, ...] = ()
    copies: tuple[ModelCopy, ...] = ()
    image_copies: tuple[ImageCopy, ...] = ()
    carried_images: tuple[MirroredImage, ...] = ()
    derived: tuple[ImageBuild, ...] = ()
    export: str = ""
    """An image that is written to a file, for another host."""
    prune: PruneRequest | None = None
    verify: VerifyRequest | None = None
    hub_token: str = secret()
    """Reads gated models on the hub."""
    transfer_key: str = secret()
    """Proves to the sender of a copy that this host may receive it."""

    def __post_init__(self) -> None:
        """Raise ValueError for an id that cannot be part of paths and units."""
        if not re.fullmatch(r"[a-z0-9-]{1,64}", self.id):
            raise ValueError(f"bad job id {self.id!r}")


@dataclass(frozen=True)
class ExportedImage:
    """An image's file on the host that sends it."""

    path: str
    size: int
    sha256: str
    id: str = ""


@dataclass(frozen=True)
class StageResult(Document):
    """How a job ended: ``jobs/<id>/result.json``."""

    NAME = "result of a stage job"

    outcome: str
    text: str = ""
    cause: str = ""
    remedy: str = ""
    line: str = ""
    """What the program that failed printed."""
    elsewhere: bool = False
    """The same may come from another host, or from outside."""
    refused: bool = False
    """By the hub, which would refuse it to every host."""
    exported: ExportedImage | None = None
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """``repo@revision`` -> files with another content than the locked one."""
    removed: int = 0
    freed: int = 0
    """Bytes."""
    stayed: tuple[Mapping[str, Any], ...] = ()
    """Name of what was not removed, and why."""
