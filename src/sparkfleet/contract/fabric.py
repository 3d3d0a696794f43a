"""Messages and files about the links between Sparks: their configuration, and measurements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sparkfleet.contract.codec import Document, Json, Migration
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import JobResult, diagnostic_of

NETPLAN_FILE = "60-sparkfleet-fabric.yaml"
MARK = "# Written by sparkfleet"
"""Begin of the file that sparkfleet writes."""
MODE = 0o600
"""netplan warns about files that other users can read."""


@dataclass(frozen=True)
class Peer:
    """Another Spark at the other end of a rail."""

    name: str
    link: str
    """Netdev here by which it is reached."""
    address: str


@dataclass(frozen=True)
class FabricRequest(Document):
    """The declared links of one Spark.

    Fields that decide what is removed have no defaults: a truncated request would remove all links.
    """

    NAME = "fabric request"

    id: str
    """Of its job; "" in a plan."""
    text: str
    """Of the netplan file; "" removes it."""
    addresses: tuple[tuple[str, str], ...]
    """Netdev and its one address with prefix length."""
    rdma: tuple[tuple[str, str], ...]
    """Netdev and its RDMA device; links without one are left out."""
    drop: tuple[tuple[str, str], ...]
    """Netdev and address of those that are removed, as in the plan."""
    management: tuple[str, ...]
    """Netdevs that must not change, besides those of default routes."""
    peers: tuple[Peer, ...]
    cluster: str = ""
    mtu: int = 0
    renderer: str = ""
    """``networkd`` or ``NetworkManager``; "": as before."""
    wait_s: float = 45.0
    """Seconds until every peer must answer; after that everything is reverted."""

    def __post_init__(self) -> None:
        """Raise ValueError for an id that cannot be part of paths and units."""
        if self.id and not re.fullmatch(r"fabric-[a-z0-9-]{1,50}", self.id):
            raise ValueError(f"bad id {self.id!r}")

    @classmethod
    def removal(cls, job: str = "") -> FabricRequest:
        """Return the request to remove all links."""
        return cls(job, text="", addresses=(), rdma=(), drop=(), management=(), peers=())


@dataclass(frozen=True)
class LinkState:
    """A netdev as ``ip`` shows it."""

    addresses: tuple[str, ...] = ()
    """IPv4 with prefix length."""
    routes: tuple[tuple[str, ...], ...] = ()
    """Arguments of ``ip route``, each."""
    mtu: int = 0
    up: bool = False
    dark: bool = False
    """It is up and has no carrier."""


@dataclass(frozen=True)
class UnmanagedLinks(Document):
    """State before sparkfleet configured the links: ``fabric/untouched.json``, for their removal."""

    NAME = "state of the links before their first change"

    mtu: Mapping[str, int] = field(default_factory=dict)
    """By netdev."""
    management: tuple[str, ...] = ()
    renderer: str = "networkd"


FAILED = "fabric-change-failed"
"""Code of a change of links that failed for a reason without a code of its own."""
MTU_TOO_LARGE, PEER_SILENT = "fabric-mtu-too-large", "fabric-peer-silent"
OTHER_END_FAILED = "fabric-other-end-failed"


def _cause_with_code(data: Json) -> Json:
    """Migrate version 1: the cause was a text."""
    hint = "check the other Spark; then run again"
    cause = {"location": "fabric", "message": data.pop("cause"), "hint": hint, "code": OTHER_END_FAILED}
    return {**data, "diagnostic": cause}


@dataclass(frozen=True)
class LinksGivenUp(Document):
    """The operator ends a change of links: ``given-up.json`` of its job."""

    NAME = "end of a change of links"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _cause_with_code}

    diagnostic: Diagnostic


@dataclass(frozen=True)
class LinksBefore(Document):
    """State of the links before a change: ``before.json`` of its job, for the return."""

    NAME = "state of the links before a change"

    text: str
    """Of the netplan file; "" = none."""
    links: Mapping[str, LinkState]
    """By netdev: the links of the file before and after the change."""
    management: Mapping[str, LinkState]
    """The same of the links that must not change."""
    networkd: bool
    """systemd-networkd ran."""
    touched: tuple[str, ...]
    renderer: str


def _with_code(data: Json) -> Json:
    return diagnostic_of(data, "fabric", FAILED)


@dataclass(frozen=True)
class FabricResult(JobResult):
    """End of a change of links: ``result.json`` of its job.

    Its outcome is ``linked``, ``removed``, ``refused``, ``returned`` or ``lost`` (not known).
    """

    NAME = "result of a change of links"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _with_code}

    job: str = ""


@dataclass(frozen=True)
class PeerReply:
    """Whether a peer answers over one link to unfragmented packets of full size."""

    peer: str
    """Its name."""
    link: str
    address: str
    mtu: int
    diagnostic: Diagnostic | None = None
    """Why it is no reply of full size; None when it is one."""
    small: bool | None = None
    """Whether the peer answers to small packets; None: not tried."""


@dataclass(frozen=True)
class RdmaDevice:
    """The RDMA device of a link, and its state (``ACTIVE``, ``DOWN``); "": unknown."""

    device: str
    state: str


def _replies_with_code(data: Json) -> Json:
    """Migrate version 1: why a peer did not answer was a text."""
    for reply in data["peers"]:
        if text := reply.pop("problem", ""):
            code = MTU_TOO_LARGE if reply.get("small") else PEER_SILENT
            reply["diagnostic"] = {"location": "fabric", "message": text, "code": code}
    return data


@dataclass(frozen=True)
class FabricEvidence(Document):
    """Checks of links that passed: ``evidence/fabric-<cluster>.json``."""

    NAME = "evidence of links"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _replies_with_code}

    cluster: str
    at: int
    """Unix time."""
    links: Mapping[str, LinkState]
    """By netdev, like ``rdma``."""
    rdma: Mapping[str, RdmaDevice]
    peers: tuple[PeerReply, ...]


RDMA, IPERF, STREAM = "ib_write_bw", "iperf3", "stream"
TOOLS = (RDMA, IPERF, STREAM)
"""The best first; the last is our own and always there."""


@dataclass(frozen=True)
class Lane:
    """One link between two Sparks, as one of them sees it."""

    link: str
    device: str
    """RDMA device; "" when there is none."""
    own: str
    peer: str
    """Addresses of this Spark and of the other one on this link."""


@dataclass(frozen=True)
class BenchRequest(Document):
    """Measure the links to one other Spark."""

    NAME = "bench request"

    cluster: str
    other: str
    """Name of the Spark at the other end."""
    tool: str
    seconds: int
    lanes: tuple[Lane, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for a tool that is unknown, or a cluster that cannot be part of a unit's name."""
        if self.tool not in TOOLS or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.cluster):
            raise ValueError(f"unknown tool {self.tool!r} or bad cluster {self.cluster!r}")


@dataclass(frozen=True)
class LinkRate:
    """Measured throughput of one link."""

    link: str
    gbits: float | None = None
    """Gb/s; None: it could not be measured."""
    diagnostic: Diagnostic | None = None
    """Why it could not be measured."""


NOT_MEASURED = "fabric-link-not-measured"
"""Code: the throughput of a link could not be measured."""


def _rates_with_code(data: Json) -> Json:
    """Migrate version 1: why a link could not be measured was a text."""
    for rate in (*data["alone"], *data["at_once"]):
        if text := rate.pop("problem", ""):
            rate["diagnostic"] = {"location": rate["link"], "message": text, "code": NOT_MEASURED}
    return data


@dataclass(frozen=True)
class BenchResult(Document):
    """What a Spark measured to another one; also its evidence file."""

    NAME = "bench result"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _rates_with_code}

    cluster: str
    to: str
    """Name of the receiving Spark."""
    tool: str
    at: int
    """Unix time."""
    alone: tuple[LinkRate, ...]
    """Each link on its own."""
    at_once: tuple[LinkRate, ...]
    """Each link while all are measured."""


@dataclass(frozen=True)
class StreamResult(Document):
    """What arrived of a plain TCP stream."""

    NAME = "result of a stream"

    gbits: float


@dataclass(frozen=True)
class BenchTools(Document):
    """Programs that can measure links on a host, the best first."""

    NAME = "tools of a bench"

    tools: tuple[str, ...] = ()


def links_of(text: str) -> tuple[str, ...]:
    """Return the netdevs that a file of ours names; () for a file of somebody else."""
    return tuple(re.findall(r"^    (\S+):$", text, re.MULTILINE)) if text.startswith(MARK) else ()
