"""Names that both sides know: of Docker's units, and of a service's containers.

The role of a container is its name: a candidate and a replaced one have a suffix that no service may have.
"""

from __future__ import annotations

from sparkfleet.runtimes.base import Role

UNIT = "docker.service"
CONTAINERD = "containerd.service"
"""The daemon that holds the containers for dockerd: its stop may end them, too."""
SUFFIXES = {Role.CURRENT: "", Role.CANDIDATE: ".next", Role.REPLACED: ".old"}


def container_name(service: str, role: Role) -> str:
    """Return the name of the container in a role of a service."""
    return f"{service}{SUFFIXES[role]}"
