"""Requests about one copy between two hosts: its sender, its receiver, and where a host can be reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sparkfleet.contract.codec import Document, Json, Migration, secret
from sparkfleet.contract.stage import LoginUser


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

    NAME = "answer of a sender"

    listeners: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class LocalSendRequest(Document):
    """Files that the operator's machine sends through the SSH connection."""

    NAME = "send request of the mirror"

    files: tuple[SentFile, ...]
    transfer_key: str = secret()


@dataclass(frozen=True)
class Place:
    """An address of a host: with prefix length, its netdev, and ``fabric`` or ``lan``."""

    netdev: str
    address: str
    kind: str


@dataclass(frozen=True)
class Places(Document):
    """Where other hosts reach this one."""

    NAME = "addresses of a host"

    places: tuple[Place, ...]
