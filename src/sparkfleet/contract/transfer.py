"""Requests about one copy between two hosts: its sender, its receiver, and where a host can be reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sparkfleet.contract.codec import Document, Json, Migration, secret
from sparkfleet.contract.stage import LoginUser, SenderPlace, StageResult
from sparkfleet.contract.state import VerifiedFile


def _transfer_key(data: Json) -> Json:
    data["transfer_key"] = data.pop("token", "")
    return data


@dataclass(frozen=True)
class SentFile:
    """A file that a receiver may ask for by its number."""

    path: str
    size: int


@dataclass(frozen=True)
class SendRequest(Document):
    """Listen on ``addresses`` and send these files to ``peers`` that know the key."""

    NAME = "send request"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _transfer_key}

    id: str
    addresses: tuple[str, ...]
    peers: tuple[str, ...]
    user: LoginUser
    files: tuple[SentFile, ...]
    transfer_key: str = secret()

    def __post_init__(self) -> None:
        """Raise ValueError for an id that cannot be part of paths and units."""
        if not re.fullmatch(r"send-[a-z0-9-]{1,60}", self.id):
            raise ValueError(f"bad id {self.id!r}")


@dataclass(frozen=True)
class SenderListens(Document):
    """Where a sender listens: address and port each."""

    NAME = "response of a sender"

    listeners: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class LocalSendRequest(Document):
    """Files that the operator's machine sends through the SSH connection."""

    NAME = "send request of the mirror"

    files: tuple[SentFile, ...]
    transfer_key: str = secret()


FABRIC, LAN = "fabric", "lan"
"""Kinds of links."""


@dataclass(frozen=True)
class Place:
    """An address of a host: with prefix length, its netdev, and the kind of link."""

    netdev: str
    address: str
    kind: str


@dataclass(frozen=True)
class Places(Document):
    """Where other hosts reach this one."""

    NAME = "addresses of a host"

    places: tuple[Place, ...]


@dataclass(frozen=True)
class FileToReceive:
    """A file of a copy: its number at the sender, its content (SHA-256, or git's object id), its path."""

    number: int
    size: int
    blob: str
    target: str
    name: str
    """For people."""


@dataclass(frozen=True)
class SnapshotLink:
    """A file's path in a model's snapshot, and the path of its content."""

    path: str
    blob: str


@dataclass(frozen=True)
class ReceiveRequest(Document):
    """Files that a child process receives, as the user who will own them."""

    NAME = "receive request"

    sender: SenderPlace
    files: tuple[FileToReceive, ...]
    links: tuple[SnapshotLink, ...] = ()
    """Created when all files are complete."""
    transfer_key: str = secret()


@dataclass(frozen=True)
class ReceiveReport(Document):
    """A line of output of the child: its progress; the last one says how the copy ended."""

    NAME = "report of a receiver"

    have: int
    """Bytes on the host, those of earlier attempts included."""
    fetched: int = 0
    """Bytes that were transferred now."""
    received: Mapping[str, VerifiedFile] = field(default_factory=dict)
    """Path -> the complete file with the right content; in the last line."""
    failure: StageResult | None = None
