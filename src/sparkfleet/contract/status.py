"""Status of a host, as its programs print it for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sparkfleet.contract.codec import SHAPE, Document, Json, Migration
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult
from sparkfleet.contract.rollout import RolloutResult


@dataclass(frozen=True)
class ContainerStatus:
    """The container of a service."""

    id: str = ""
    running: bool = False
    started_at: str = ""
    generation: str = ""
    """From its label."""
    unknown: Diagnostic | None = None
    """Why the runtime did not answer."""


@dataclass(frozen=True)
class GenerationStatus:
    """A generation that is kept on the host."""

    id: str
    promoted_at: float
    model: str


@dataclass(frozen=True)
class ServiceStatus:
    """A service with a record on the host."""

    active: str
    enabled: str
    """The unit, as ``systemctl is-active`` and ``is-enabled`` print it."""
    unknown: Diagnostic | None = None
    """Why the record cannot be read; what it holds is missing then."""
    generation: str = ""
    model: str = ""
    served_name: str = ""
    port: int = 0
    promoted_at: float = 0.0
    gate_result: GateResult | None = None
    container: ContainerStatus | None = None
    generations: tuple[GenerationStatus, ...] = ()


@dataclass(frozen=True)
class MemoryStatus:
    """Memory of the host in MiB."""

    total_mib: int
    available_mib: int


def _with_code(data: Json) -> Json:
    """Migrate version 1: what could not be read was a text."""
    for name, service in data["services"].items():
        container = service.get("container") or {}
        for part, code in ((service, SHAPE), (container, "runtime-refused")):
            text = part.pop("unknown", "")
            part["unknown"] = {"location": name, "message": text, "code": code} if text else None
    return data


@dataclass(frozen=True)
class HostStatus(Document):
    """Services, rollouts and memory of a host."""

    NAME = "status of a host"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _with_code}

    services: Mapping[str, ServiceStatus]
    rollout: str
    """Id of the rollout in progress; "" for none."""
    results: tuple[RolloutResult, ...]
    """Of the rollouts that ended, in order."""
    memory: MemoryStatus
