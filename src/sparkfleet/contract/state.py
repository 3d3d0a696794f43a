"""Files that a host keeps under its state directory, beside records, rollouts and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sparkfleet.contract.codec import Document


@dataclass(frozen=True)
class Rates(Document):
    """How fast the host fetched last, in bytes a second: ``rates.json``. Only estimates depend on it."""

    NAME = "record of transfer rates"

    copy: int = 0
    """From another host."""
    download: int = 0
    """From the hub."""
    pull: int = 0
    """From a registry."""

    def known(self) -> dict[str, int]:
        """Return the rates that were measured."""
        rates = {"copy": self.copy, "download": self.download, "pull": self.pull}
        return {kind: rate for kind, rate in rates.items() if rate > 0}


@dataclass(frozen=True)
class Starts(Document):
    """Unix times of engine starts that ended before the engine served: ``services/<name>/starts.json``."""

    NAME = "record of starts"

    unproven: tuple[float, ...] = ()


@dataclass(frozen=True)
class StopRecord(Document):
    """Who stopped a service on purpose: ``services/<name>/stop.json``. The next start removes it."""

    NAME = "record of a stop"

    operator: str = ""
    """As ``user@machine``."""
    at: float = 0.0
    """Unix time."""
    reason: str = ""
    """"" = none was given."""


@dataclass(frozen=True)
class StagedItem:
    """Something that sparkfleet fetched: bytes, and when it came (unix time)."""

    bytes: int = 0
    at: float = 0
    repo: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Staged(Document):
    """What sparkfleet fetched to a host, and may remove again: ``staged.json``."""

    NAME = "record of fetched files"

    images: Mapping[str, StagedItem] = field(default_factory=dict)
    """By reference."""
    revisions: Mapping[str, StagedItem] = field(default_factory=dict)
    """By the path of the snapshot."""


@dataclass(frozen=True)
class VerifiedFile:
    """A file that was hashed, as it was then; ``ok``: it had the content of that name."""

    size: int
    mtime_ns: int
    inode: int
    blob: str
    ok: bool


@dataclass(frozen=True)
class Verified(Document):
    """Hashes of model files by their real paths: ``verified.json``."""

    NAME = "record of hashed files"

    files: Mapping[str, VerifiedFile] = field(default_factory=dict)
