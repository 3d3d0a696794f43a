"""Messages between the hosts of a cluster, over the fabric: of a rollout, and of the supervisors.

A supervisor runs until the next rollout or restart, so that the other hosts may run another version. Keys of
its messages therefore stay as they are. The programs of a rollout are those of one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sparkfleet.contract.codec import SHAPE, Document, Json, Migration, secret, stored_as
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import diagnostic_of


def _cluster_key(data: Json) -> Json:
    data["cluster_key"] = data.pop("token", "")
    return data


def _with_code(data: Json) -> Json:
    return diagnostic_of(data, "candidate", "rollout-failed")


@dataclass(frozen=True)
class MemberMessage(Document):
    """What a member of a cluster rollout reports to the head."""

    NAME = "report of a cluster's member"
    VERSION = 3
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _cluster_key, 2: _with_code}

    rank: int = 0
    state: str = ""
    diagnostic: Diagnostic | None = None
    """Why its candidate failed, or its rollout was refused."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Values that must be equal on all ranks, by their names in messages."""
    cluster_key: str = secret()


@dataclass(frozen=True)
class HeadResponse(Document):
    """What the head of a cluster rollout decides."""

    NAME = "response of a cluster's head"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _with_code}

    command: str = stored_as("word")
    """The last command to the members: prepare, stop, start, commit or abort."""
    diagnostic: Diagnostic | None = None
    """Why all ranks roll back."""


def _error_with_code(data: Json) -> Json:
    """Migrate version 1: the reason was a text."""
    return {**data, "diagnostic": {"location": "", "message": data.pop("error"), "code": SHAPE}}


@dataclass(frozen=True)
class MessageRefused(Document):
    """Response to a message that cannot be read, or that is of another rollout."""

    NAME = "refusal of a message"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _error_with_code}

    diagnostic: Diagnostic


@dataclass(frozen=True)
class PeerQuery(Document):
    """A query of one host of a cluster to the supervisor of another."""

    NAME = "query of a cluster's host"

    subject: str = stored_as("ask")
    """``state``, or ``swap`` for the end of a rollout."""
    rollout: str = stored_as("swap", default="")
    """Id of the rollout."""
    nonce: str = ""
    """Part of what the response signs, so that it answers this query only."""


@dataclass(frozen=True)
class PeerState(Document):
    """State of a rank, as its supervisor reports it."""

    NAME = "state of a rank"

    fingerprint: str = stored_as("make")
    epoch: str = ""
    state: str = ""
    serves: bool = False


@dataclass(frozen=True)
class RolloutEnd(Document):
    """End of a rollout on another host."""

    NAME = "end of a rollout"

    command: str = stored_as("word", default="")
    """``commit`` or ``abort``; "" when the rollout has not ended, or is not known there."""


@dataclass(frozen=True)
class RankRun(Document):
    """Which container runs for which epoch: ``services/<service>/run.json``."""

    NAME = "run of a rank"

    epoch: str = ""
    container: str = ""
    started_at: str = ""
