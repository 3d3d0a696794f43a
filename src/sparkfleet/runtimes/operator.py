"""What a runtime is to the operator's side: what a Spark keeps of a workload, how it differs from what runs,
and how it is written for other tools. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation
from sparkfleet.runtimes import Container, Mount
from sparkfleet.runtimes.base import Role
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance


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


@dataclass(frozen=True)
class ObservedRuntime:
    """A runtime's part of the probe's response."""

    instances: tuple[ObservedInstance, ...] = ()
    images: Mapping[str, ObservedImage | None] = field(default_factory=dict)
    """By the requested reference and by id; None: not on the Spark."""
    registry_layers: bool = False
    """Whether missing images must arrive with their layers as the registry sends them; False if none is
    missing. docker: the containerd image store.
    """


@dataclass(frozen=True)
class Collectors:
    """Modules that a probe sends, by their full names and in loading order.

    The last one of each is ``sparkfleet.runtimes.NAME.collectors.probe``, ``.preflight`` and ``.storage``. It
    has the functions that docker's has, and ``probe`` has ``DATA``: where the runtime writes.
    """

    probe: tuple[str, ...]
    """In every probe."""
    preflight: tuple[str, ...] = ()
    """() for a runtime without containers."""
    storage: tuple[str, ...] = ()
    """For a prune; () if nothing of the runtime's is pruned."""


class OperatorRuntime(Protocol):
    """The operator's side of a runtime."""

    name: str
    noun: str
    """What people call an instance: ``container``."""
    daemon_units: tuple[str, ...]
    """systemd units that a service's unit is ordered after, and wants."""
    formats: tuple[str, ...]
    """Formats of ``sparkfleet render``, the default first."""
    collectors: Collectors
    prune_command: str
    """Command by which people free disk space where the runtime stores images and instances."""

    def definition(self, workload: DeclaredWorkload, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return what an instance is created from: ``Generation.definition``, which the driver reads.

        ``argv`` is the command, without what an image's entrypoint puts before it.
        """

    def program_artifact(self, generation: Generation) -> str:
        """Return what instances of a generation run from, as the driver's ``program_command`` takes it."""

    def role(self, instance: ObservedInstance) -> Role | None:
        """Return the role of an instance for its service; None: it is not managed, or was renamed."""

    def instance_names(self, service: str) -> tuple[str, ...]:
        """Return the names that instances of a service need; nothing else may have one of them."""

    def setting_changes(
        self,
        workload: DeclaredWorkload,
        image: ObservedImage | None,
        observed: ObservedInstance | None,
        seen_image: ObservedImage | None,
    ) -> Sequence[SettingChange]:
        """Return the settings that need another instance, in the order of the plan.

        Image, arguments and environment are compared elsewhere. Without an instance (``observed`` None):
        those that people want to see of a new one. ``image`` and, of the instance, ``seen_image`` add what
        they set by themselves; None = not known.
        """

    def read_response(self, part: object) -> ObservedRuntime:
        """Return the runtime's part of the probe's response. Raise ContractError for another format."""

    def unavailable(self, host: str, state: str, error: str) -> Diagnostic:
        """Return why the runtime did not respond; ``state`` is one of ``runtimes.errors``."""

    def gpu_command(self, image: str) -> tuple[str, ...]:
        """Return the command that lists the GPUs from within an instance of an image on the Spark."""

    def remove_image_command(self, image: str) -> str:
        """Return the command that removes an image from a Spark; "" for a runtime without images."""

    def stop_command(self, instance: str) -> str:
        """Return the command by which people stop an instance."""

    def disable_command(self, instance: str) -> str:
        """Return the command by which people stop an instance, also after the next boot."""

    def rename_command(self, instance: str, name: str) -> str:
        """Return the command by which people give an instance another name."""

    def render(self, form: str, services: Sequence[tuple[DeclaredWorkload, Generation]]) -> str:
        """Return services of one Spark in one of ``formats``."""
