"""Docker's part of the probe's response, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.contract import codec
from sparkfleet.contract.generation import LABEL_GENERATION, LABEL_SERVICE
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance


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


PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True)
class _Binding:
    """An entry of ``PortBindings``: a port, a range as of ``docker run -p 8100-8110:80``, or any ("")."""

    HostPort: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what is no port."""
        if self.HostPort and not PORTS.fullmatch(self.HostPort):
            raise ValueError(f"HostPort: found {self.HostPort[:20]!r}, expected a port or a range of ports")

    @property
    def ports(self) -> range:
        """Return every port that Docker may choose."""
        found = PORTS.fullmatch(self.HostPort or "")
        return range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)


@dataclass(frozen=True)
class _Policy:
    Name: str | None = None


@dataclass(frozen=True)
class _DeviceRequest:
    Driver: str | None = None
    DeviceIDs: tuple[str, ...] | None = None
    Capabilities: tuple[tuple[str, ...] | None, ...] | None = None


@dataclass(frozen=True)
class _Device:
    PathOnHost: str
    PathInContainer: str
    CgroupPermissions: str | None = None


@dataclass(frozen=True)
class _Ulimit:
    Name: str
    Hard: int
    Soft: int


@dataclass(frozen=True)
class _Mount:
    Target: str
    Source: str | None = None
    ReadOnly: bool | None = None


@dataclass(frozen=True)
class _Log:
    Type: str | None = None
    Config: Mapping[str, str] | None = None


@dataclass(frozen=True)
class _HostConfig:
    """What a plan reads of ``HostConfig`` in Docker's inspect data: the settings of ``settings.py``."""

    RestartPolicy: _Policy | None = None
    NetworkMode: str | None = None
    IpcMode: str | None = None
    PortBindings: Mapping[str, tuple[_Binding, ...] | None] | None = None
    ShmSize: int | None = None
    DeviceRequests: tuple[_DeviceRequest, ...] | None = None
    Memory: int | None = None
    Ulimits: tuple[_Ulimit, ...] | None = None
    Devices: tuple[_Device, ...] | None = None
    CapAdd: tuple[str, ...] | None = None
    Mounts: tuple[_Mount, ...] | None = None
    Binds: tuple[str, ...] | None = None
    LogConfig: _Log | None = None
    ExtraHosts: tuple[str, ...] | None = None
    Tmpfs: Mapping[str, str] | None = None
    SecurityOpt: tuple[str, ...] | None = None
    CpusetCpus: str | None = None


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
        codec.read(_HostConfig, self.host, "HostConfig")

    def observed(self) -> ObservedInstance:
        """Return the container, with the service that its label names."""
        config = codec.read(_Config, self.config, "Config")
        labels = config.Labels or {}
        bindings = codec.read(_HostConfig, self.host, "HostConfig").PortBindings or {}
        return ObservedInstance(
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
            ports=frozenset(port for each in bindings.values() for one in each or () for port in one.ports),
            details={"Config": self.config, "HostConfig": self.host},
        )


@dataclass(frozen=True)
class DockerPart:
    """Containers, and the requested images."""

    containers: tuple[ContainerPart, ...] = ()
    images: Mapping[str, ObservedImage | None] = field(default_factory=dict)
    data: str = ""
    """Directory with the images, if one is missing."""
