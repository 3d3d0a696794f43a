"""Instances and images as a probe sees them on a Spark. For the operator's side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkfleet import runtimes


@dataclass(frozen=True)
class ObservedImage:
    """An image on the Spark."""

    id: str
    digests: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    size: int = 0
    top_layer: str = ""
    """Hash of the unpacked content of its last layer: tells builds from the same base apart."""

    @property
    def build(self) -> str:
        """Return what is equal on all hosts with the same image, also where their ids are not."""
        if not self.top_layer:
            return self.id
        settings = (self.entrypoint, self.env, sorted(self.labels.items()), self.user, self.working_dir)
        return f"{self.top_layer} {hashlib.sha256(repr(settings).encode()).hexdigest()[:16]}"

    @property
    def has_registry_layers(self) -> bool:
        """Return whether it is in containerd's store, with its layers as the registry sent them.

        Its id is the digest of its manifest then, else that of its configuration.
        """
        return any(name.endswith(f"@{self.id}") for name in self.digests)


@dataclass(frozen=True)
class ObservedInstance:
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
