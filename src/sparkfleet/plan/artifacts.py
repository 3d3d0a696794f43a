"""Images and models of a host, present or missing, and their sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sparkfleet.units import duration, size


class ArtifactType(StrEnum):
    """What is fetched as a whole."""

    IMAGE = "image"
    MODEL = "model"


@dataclass(frozen=True)
class Artifact:
    """An image, or a model at its commit, and how much of it one host has.

    Bytes and rates are not compared: they change without a change of the plan.
    """

    type: ArtifactType
    key: str
    """``repository@digest`` of an image, ``repository@commit`` of a model, the name of a derived image."""
    complete: bool
    have: int = field(default=0, compare=False)
    """Bytes."""
    missing: int = field(default=0, compare=False)
    """Bytes."""
    free: int = field(default=0, compare=False)
    """Bytes free on the disk where it is stored."""
    rate: int = field(default=0, compare=False)
    """Bytes a second of the host's last download of this type; 0: not known."""
    copy_rate: int = field(default=0, compare=False)
    """The same from another host."""
    derived: bool = False
    """Whether it is an image that is built on a host: no registry has it."""
    identity: str = ""
    """Of an image that is present: equal on all hosts with the same content; "" for a model."""
    registry_layers: bool = False
    """Whether the host stores the layers of an image as the registry sends them: a copy from a host that does
    not is no use to it.
    """


@dataclass(frozen=True)
class ArtifactSource:
    """Where a host gets an artifact from."""

    host: str = ""
    """Name of another host; "": the registry or the hub."""
    near: bool = False
    """Whether the two are linked by the fabric."""
    size: int = 0
    """Bytes that come from there, where that differs from the missing bytes; else 0."""
    mirror: bool = False
    """Whether it comes from the offline mirror on the operator's machine."""
    not_seed: str = ""
    """Why the declared seed does not fetch it for the others, if it does not."""


def origin_text(artifact: Artifact, source: ArtifactSource) -> str:
    """Return where an artifact comes from."""
    if source.host:
        return f"from {source.host}{' over the fabric' if source.near else ''}"
    if artifact.derived:
        return f"to build here{' from the offline mirror' if source.mirror else ''}"
    if source.mirror:
        return "from the offline mirror"
    return "to pull" if artifact.type is ArtifactType.IMAGE else "to download"


def amount_text(artifact: Artifact, source: ArtifactSource) -> str:
    """Return how much comes from where, how long that takes, and how much space is left."""
    number = source.size or artifact.missing
    count = f"{size(number)} " if number else ""
    rate = artifact.copy_rate if source.host else artifact.rate
    took = f" (about {duration(number / rate)})" if rate and number >= rate else ""
    if artifact.type is ArtifactType.IMAGE:
        return f"{count}{origin_text(artifact, source)}{took}, {size(artifact.free)} free"
    left = f"{size(artifact.free)} free, {size(max(0, artifact.free - artifact.missing))} after"
    return f"{count}{origin_text(artifact, source)}{took}, {left}"
