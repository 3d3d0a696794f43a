"""Docker's part of the probe's answer, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.contract import codec
from sparkfleet.contract.generation import LABEL_GENERATION, LABEL_SERVICE
from sparkfleet.runtimes.observation import ImageSeen, InstanceSeen


@dataclass(frozen=True)
class _Config:
    """What a plan reads of ``Config`` in Docker's inspect data."""

    Image: str | None = None
    Cmd: tuple[str, ...] | None = None
    Entrypoint: tuple[str, ...] | None = None
    Env: tuple[str, ...] | None = None
    User: str | None = None
    WorkingDir: str | None = None
    Labels: Mapping[str, str] | None = None
    StopTimeout: int | None = None
    StopSignal: str | None = None


@dataclass(frozen=True)
class ContainerPart:
    """A container; ``config`` and ``host`` are Docker's inspect data, of unmanaged containers a part."""

    id: str
    name: str
    image_id: str
    state: str
    started_at: str
    config: Mapping[str, Any]
    host: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raise ValueError for inspect data of another format."""
        codec.read(_Config, self.config, "Config")

    def seen(self) -> InstanceSeen:
        """Return the container, with the service that its label names."""
        config = codec.read(_Config, self.config, "Config")
        labels = config.Labels or {}
        bindings = self.host.get("PortBindings") or {}
        published = (entry.get("HostPort") for entries in bindings.values() for entry in entries or ())
        return InstanceSeen(
            id=self.id,
            name=self.name,
            artifact=self.image_id,
            state=self.state,
            started_at=self.started_at,
            service=labels.get(LABEL_SERVICE, ""),
            generation=labels.get(LABEL_GENERATION, ""),
            image=config.Image or "",
            command=(*(config.Entrypoint or ()), *(config.Cmd or ())),
            env=config.Env or (),
            ports=frozenset(int(port) for port in published if port),
            details={"Config": self.config, "HostConfig": self.host},
        )


@dataclass(frozen=True)
class DockerPart:
    """Containers, and the requested images."""

    containers: tuple[ContainerPart, ...] = ()
    images: Mapping[str, ImageSeen | None] = field(default_factory=dict)
