"""The request to apply and revert resources on a host, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sparkfleet.contract.codec import Document, secret


@dataclass(frozen=True)
class ResourceToApply:
    """A declared resource; the login user and its home are filled in."""

    kind: str
    key: str
    fields: Mapping[str, str]
    arg: str = ""
    """What observing it needs beside the key."""
    content: str = ""
    """What applying it needs beside the fields: a file's bytes in base64."""
    secret: str = secret()
    """Token, or user and password of a login."""
    user: str = ""


@dataclass(frozen=True)
class ResourceRequest(Document):
    """What a run changes of the resources of one host."""

    NAME: ClassVar[str] = "resource request"

    apply: tuple[ResourceToApply, ...] = ()
    revert: tuple[str, ...] = ()
    """Ids of resources that are no longer declared."""
    declared: tuple[str, ...] = ()
    """Ids of all declared resources: what a reverted one shares with them stays."""


@dataclass(frozen=True)
class RefusedResource:
    """A resource that could not be applied or reverted."""

    id: str
    found: str
    expected: str = ""
    hint: str = ""


@dataclass(frozen=True)
class ResourceResult(Document):
    """What was done, in order; and what was refused: if nothing was done, nothing has been changed."""

    NAME: ClassVar[str] = "resource result"

    done: tuple[str, ...] = ()
    refused: tuple[RefusedResource, ...] = ()
