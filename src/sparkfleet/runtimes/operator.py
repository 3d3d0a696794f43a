"""What a runtime is to the operator's side: what a Spark keeps of a workload, how it differs from what runs,
and how it is written for other tools. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sparkfleet.contract.generation import Generation
from sparkfleet.desired_state import Container, Mount
from sparkfleet.runtimes.observation import ContainerSeen, ImageSeen


@dataclass(frozen=True)
class DeclaredWorkload:
    """What a service declares besides its command, whatever its engine and runtime."""

    service: str
    port: int
    image: str
    """Full reference; "" for a runtime without images."""
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    """All bind mounts, sources absolute."""
    container: Container
    """Settings under ``container:`` after merging."""


@dataclass(frozen=True)
class SettingChange:
    """A setting in which what runs differs from what is declared; None = it has none there."""

    field: str
    """What the plan calls it: ``mount``, ``container``."""
    key: str
    """Which one of several: the target of a mount."""
    old: str | None
    new: str | None


class OperatorRuntime(Protocol):
    """The operator's side of a runtime."""

    name: str
    noun: str
    """What people call an instance: ``container``."""
    daemon_units: tuple[str, ...]
    """systemd units that a service's unit is ordered after, and wants."""
    formats: tuple[str, ...]
    """Formats of ``sparkfleet render``, the default first."""

    def definition(self, workload: DeclaredWorkload, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return what an instance is created from: ``Generation.definition``, which the driver reads.

        ``argv`` is the command, without what an image's entrypoint puts before it.
        """

    def setting_changes(
        self, workload: DeclaredWorkload, seen: ContainerSeen | None, image: ImageSeen | None
    ) -> Sequence[SettingChange]:
        """Return the settings that need another instance, in the order of the plan.

        Image, arguments and environment are compared elsewhere. Without an instance (``seen`` None): those
        that people want to see of a new one. ``image`` adds what it sets by itself; None = not known.
        """

    def render(self, form: str, services: Sequence[tuple[DeclaredWorkload, Generation]]) -> str:
        """Return services of one Spark in one of ``formats``."""
