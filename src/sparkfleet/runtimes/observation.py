"""Containers and images as a probe sees them on a Spark. For the operator's side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
class ContainerSeen:
    """A container; ``config`` and ``host`` are Docker's inspect data, of unmanaged containers a part."""

    id: str
    name: str
    image_id: str
    state: str
    started_at: str
    service: str
    """Value of sparkfleet's label, "" for an unmanaged container."""
    config: Mapping[str, Any]
    host: Mapping[str, Any]

    @property
    def running(self) -> bool:
        """Tell whether the container runs."""
        return self.state == "running"

    @property
    def ports(self) -> frozenset[int]:
        """Return the Spark's ports that Docker publishes for this container (none with host networking)."""
        bindings = self.host.get("PortBindings") or {}
        found = (entry.get("HostPort") for entries in bindings.values() for entry in entries or ())
        return frozenset(int(port) for port in found if port)
