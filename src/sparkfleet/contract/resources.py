"""Resources of a host: the record of those that runs applied, the request to apply and revert, its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sparkfleet.contract.codec import Document, Json, Migration, secret
from sparkfleet.contract.diagnostic import Diagnostic


@dataclass
class Applied:
    """A resource that runs applied on a host."""

    kind: str
    key: str
    arg: str
    before: dict[str, Any]
    """Fields and snapshot of the time before the first run that changed it."""
    applied: dict[str, str]
    """Fields that runs applied."""


RENAMED_KINDS: Mapping[str, str] = {"swap": "linux_swap", "token": "hub_token"}
"""Kinds of resources by their names in version 1 of the record."""


def _renamed(data: Json) -> Json:
    resources = {}
    for entry in data["items"].values():
        kind = RENAMED_KINDS.get(entry["kind"], entry["kind"])
        resources[f"{kind} {entry['key']}"] = {**entry, "kind": kind, "applied": entry["put"]}
    return {"salt": data.get("salt", ""), "resources": resources}


@dataclass(frozen=True)
class AppliedResources(Document):
    """Resources that runs applied on a host, by kind and key: ``prepared.json``."""

    NAME: ClassVar[str] = "record of resources"
    VERSION: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _renamed}

    resources: dict[str, Applied]
    salt: str = ""
    """Of the hashes by which secrets are compared."""


@dataclass(frozen=True)
class RecordedIds(Document):
    """What every probe returns of the record of resources."""

    NAME: ClassVar[str] = "record of resources"
    VERSION: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: lambda data: data}

    ids: tuple[str, ...]


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
    hub_token: str = secret()
    """Of the Hugging Face hub."""
    registry_password: str = secret()
    """Of a login at a registry."""
    user: str = ""
    """User name of the login."""


def _with_one_secret_a_field(data: Json) -> Json:
    resources = [dict(one) for one in data.get("apply", ())]
    for one in resources:
        value = one.pop("secret", "")
        if value and one.get("user"):
            one["registry_password"] = value[len(one["user"]) + 1 :]  # it was user:password
        elif value:
            one["hub_token"] = value
    return {**data, "apply": resources}


@dataclass(frozen=True)
class ResourceRequest(Document):
    """What a run changes of the resources of one host."""

    NAME: ClassVar[str] = "resource request"
    VERSION: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _with_one_secret_a_field}

    apply: tuple[ResourceToApply, ...] = ()
    revert: tuple[str, ...] = ()
    """Ids of resources that are no longer declared."""
    declared: tuple[str, ...] = ()
    """Ids of all declared resources: what a reverted one shares with them stays."""


def _with_code(data: Json) -> Json:
    data["refused"] = [
        {
            "location": one["id"],
            "message": one["found"],
            "expected": one.get("expected", ""),
            "hint": one.get("hint", ""),
            "code": "host-change-failed",
        }
        for one in data.get("refused", ())
    ]
    return data


@dataclass(frozen=True)
class ResourceResult(Document):
    """What was done, in order; and what was refused: if nothing was done, nothing has been changed."""

    NAME: ClassVar[str] = "resource result"
    VERSION: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _with_code}

    done: tuple[str, ...] = ()
    refused: tuple[Diagnostic, ...] = ()
    """Their locations are ids of resources."""
