"""Instances and images as a probe sees them on a Spark. For the operator's side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkfleet import runtimes


@dataclass(frozen=True)
class ImageSeen:
    """An image on the Spark."""

    id: str
    digests: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    size: int = 0


@dataclass(frozen=True)
class InstanceSeen:
    """An instance of a runtime: a container. Of an unmanaged one: its name, image, state and ports."""

    id: str
    name: str
    artifact: str
    """Content id of what it runs from. docker: id of the image."""
    state: str
    """running, exited ..., as the runtime calls it."""
    started_at: str
    service: str = ""
    """The service that it belongs to, "" for an unmanaged one."""
    generation: str = ""
    """Id of the generation that it was created for."""
    image: str = ""
    """Reference of the image that it was created from."""
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """``NAME=value``, the image's own included."""
    ports: frozenset[int] = frozenset()
    """The Spark's ports that the runtime publishes for it (none with host networking)."""
    runtime: str = runtimes.DEFAULT
    cgroup: str = ""
    """Part of the cgroup path of its processes; "": its id."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The runtime's own description, which it compares with the declared settings."""

    def has_process(self, cgroup: str) -> bool:
        """Return whether a process with this cgroup belongs to it."""
        return (self.cgroup or self.id) in cgroup

    @property
    def running(self) -> bool:
        """Tell whether it runs."""
        return self.state == "running"
