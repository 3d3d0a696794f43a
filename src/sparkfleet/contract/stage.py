"""Requests to fetch images and model files to a host, to hash and to remove them, and how they end.

All of them are jobs of one kind: a directory ``jobs/<id>/`` with request, events and result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sparkfleet.contract.codec import Document, Json, Migration, secret
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import JobResult, diagnostic_of

STAGED, FAILED, LOST = "staged", "failed", "lost"
"""Outcomes of a job."""


@dataclass(frozen=True)
class LoginUser:
    """Who owns models and caches on the host."""

    name: str
    uid: int
    gid: int
    home: str


ROOT = LoginUser("root", 0, 0, "/root")


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
class HubDownloadRequest(Document):
    """What the host's own hub client downloads, for images without one."""

    NAME = "hub download request"

    model: ModelDownload
    token_file: str = ""
    """Path of a file with the hub's token; "" for none."""


@dataclass(frozen=True)
class SenderPlace:
    """Who sends a copy, and where it listens: distance, address and port each."""

    sender: str
    listeners: tuple[tuple[int, str, int], ...]

    @property
    def place(self) -> SenderPlace:
        """Return these fields alone."""
        return SenderPlace(self.sender, self.listeners)


@dataclass(frozen=True)
class ModelCopy(SenderPlace):
    """Files of a model at one commit, from another host or from the operator's machine."""

    repo: str
    revision: str
    models_dir: str
    files: tuple[ModelFile, ...]


@dataclass(frozen=True)
class ImageCopy(SenderPlace):
    """An image from another host, as the archive that was exported there."""

    image: str
    size: int
    sha256: str
    id: str = ""
    """Of a derived image, which has no registry: hash of its layers and settings; older programs: its id."""
    manifests: tuple[str, ...] = ()
    """Base64, from the index down; empty: its registry supplies them."""


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
    wheel_sender: SenderPlace | None = None
    """Who sends the wheels; None: they come from their URLs."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model at one commit that are hashed."""

    repo: str
    revision: str
    files: tuple[ModelFile, ...]


@dataclass(frozen=True)
class VerifyRequest:
    """Hash model files; ``rehash``: those with a known hash, too."""

    models_dir: str
    repositories: tuple[ModelFiles, ...]
    rehash: bool = False


@dataclass(frozen=True)
class PruneItem:
    """One item to remove."""

    kind: str
    name: str
    key: str = ""
    refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class PruneRequest:
    """Remove these items if services and containers are what they were when the list was shown."""

    models_dir: str
    cache_dir: str
    records: Mapping[str, str]
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


def _plain_names(data: Json) -> Json:
    """Migrate version 2, in which some fields had other names."""
    _rename(data, carried_images="mirrored_images", unless="skip_if_image", ask="access_checks")
    for build in data.get("derived", ()):
        _rename(build, carried="wheel_sender")
    _rename(data.get("prune") or {}, books="records")
    _rename(data.get("verify") or {}, again="rehash")
    return data


def _rename(data: Json, **names: str) -> None:
    for old, new in names.items():
        if old in data:
            data[new] = data.pop(old)


@dataclass(frozen=True)
class StageRequest(Document):
    """What a job fetches, hashes or removes: ``jobs/<id>/request.json``, without its secrets."""

    NAME = "stage request"
    VERSION = 3
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _named_secrets, 2: _plain_names}

    id: str
    user: LoginUser | None = None
    images: tuple[str, ...] = ()
    skip_if_image: str = ""
    """A derived image; if the host has it, ``images`` are not pulled."""
    access_checks: tuple[ModelDownload, ...] = ()
    """Models whose licence is checked before anything is downloaded."""
    weights: tuple[ModelDownload, ...] = ()
    copies: tuple[ModelCopy, ...] = ()
    image_copies: tuple[ImageCopy, ...] = ()
    mirrored_images: tuple[MirroredImage, ...] = ()
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
class ExportedImage(Document):
    """An image's archive on the host that sends it; also the file beside it."""

    NAME = "record of an exported image"

    path: str
    size: int
    sha256: str
    id: str = ""


def _plain_result(data: Json) -> Json:
    """Migrate version 1: fields were called ``elsewhere`` and ``stayed`` (with ``why``)."""
    _rename(data, elsewhere="source_failed", stayed="remaining")
    for item in data.get("remaining", ()):
        _rename(item, why="reason")
    return data


def _with_code(data: Json) -> Json:
    """Migrate version 2: cause and remedy had no code, but whether the hub refused."""
    code = "hub-refused" if data.pop("refused", False) else "staging-failed"
    return diagnostic_of(data, "", "job-lost" if data.get("outcome") == LOST else code)


NOT_REMOVED = "item-not-removed"
"""Code: an item of a prune remains."""


def _remaining_with_code(data: Json) -> Json:
    """Migrate version 3: an item that remains was a name and a reason."""
    for item in data.get("remaining", ()):
        _rename(item, name="location", reason="message")
        item["code"] = NOT_REMOVED
    return data


@dataclass(frozen=True)
class StageResult(JobResult):
    """How a job ended: ``jobs/<id>/result.json``.

    The location of its diagnostic is an artifact, a file or a host.
    """

    NAME = "result of a stage job"
    VERSION = 4
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _plain_result, 2: _with_code, 3: _remaining_with_code}

    text: str = ""
    line: str = ""
    """What the program that failed printed."""
    source_failed: bool = False
    """The source failed: another host, or the hub or registry, may have the same artifact."""
    exported: ExportedImage | None = None
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """``repo@revision`` -> files whose content is not the locked one."""
    removed: int = 0
    freed: int = 0
    """Bytes."""
    remaining: tuple[Diagnostic, ...] = ()
    """Why an item, the location, was not removed."""
