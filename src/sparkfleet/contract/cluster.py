"""Messages between the hosts of a cluster, over the fabric: of a rollout, and of the supervisors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sparkfleet.contract.codec import Document, Json, Migration, secret


def _cluster_key(data: Json) -> Json:
    data["cluster_key"] = data.pop("token", "")
    return data


@dataclass(frozen=True)
class MemberMessage(Document):
    """What a member of a cluster rollout reports to the head."""

    NAME = "report of a cluster's member"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _cluster_key}

    rank: int = 0
    state: str = ""
    cause: str = ""
    remedy: str = ""
    shared: Mapping[str, str] = field(default_factory=dict)
    """What must be the same on every rank, by its name for people."""
    cluster_key: str = secret()


@dataclass(frozen=True)
class HeadAnswer(Document):
    """What the head of a cluster rollout decides."""

    NAME = "answer of a cluster's head"

    word: str
    """How far the members may go, or back."""
    cause: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class PeerQuery(Document):
    """What one host of a cluster asks another's supervisor."""

    NAME = "query of a cluster's host"

    ask: str
    """``state``, or ``swap``: how a rollout ended."""
    swap: str = ""
    nonce: str = ""
    """The answer is signed for it."""


@dataclass(frozen=True)
class PeerState(Document):
    """How a rank is, as its supervisor answers."""

    NAME = "state of a rank"

    make: str
    epoch: str = ""
    state: str = ""
    serves: bool = False


@dataclass(frozen=True)
class RolloutEnd(Document):
    """How a rollout ended on another host; "" when it has not, or is not known there."""

    NAME = "end of a rollout"

    word: str = ""


@dataclass(frozen=True)
class RankRun(Document):
    """Which container runs for which epoch: ``services/<service>/run.json``."""

    NAME = "run of a rank"

    epoch: str = ""
    container: str = ""
    started_at: str = ""
