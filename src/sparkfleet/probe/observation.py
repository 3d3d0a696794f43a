"""The present state of one Spark, typed. What could not be read is a diagnostic, never absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkfleet import runtimes
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import STATE_DIR, CurrentGeneration
from sparkfleet.contract.resources import Applied
from sparkfleet.contract.state import StopRecord
from sparkfleet.probe.links import ObservedFabric
from sparkfleet.probe.machine import ObservedMachine, unknown_machine
from sparkfleet.probe.packages import Packages
from sparkfleet.probe.stored import Stored
from sparkfleet.runtimes.base import Role
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance


@dataclass(frozen=True)
class User:
    """The login user."""

    name: str
    home: str
    uid: int
    gid: int
    group: str
    groups: tuple[str, ...] = ()

    def expand(self, path: str) -> str:
        """Return the path with a leading ``~`` replaced by the home."""
        return self.home + path[1:] if path == "~" or path.startswith("~/") else path


@dataclass(frozen=True)
class Disk:
    """A file system: bytes, and the path that was requested."""

    path: str
    total: int
    free: int
    read_only: bool = False


@dataclass(frozen=True)
class ObservedPath:
    """What is at a path; ``kind`` is file, directory, link, broken link, other or absent."""

    kind: str
    mode: str = ""
    user: str = ""
    group: str = ""
    size: int = field(default=0, compare=False)
    """Bytes; of a directory they change with its content, which is no reason for another plan."""
    sha256: str = ""
    target: str = ""
    """Of a link."""


@dataclass(frozen=True)
class ObservedUnit:
    """A systemd unit of sparkfleet."""

    text: str | None
    drop_ins: Mapping[str, str] = field(default_factory=dict)
    active: str = ""
    sub: str = ""
    enabled: str = ""
    reload: bool = False
    result: str = ""
    status: str = ""
    """Status text of its program."""


@dataclass(frozen=True)
class Listener:
    """The process that listens on a TCP port."""

    pid: int
    command: str
    cgroup: str = ""


IMAGES = "images"
Fields = Mapping[str, Any]
"""Field -> value of a resource."""


@dataclass(frozen=True)
class ObservedResources:
    """Declared resources, and those that runs applied."""

    record: Mapping[str, Applied] = field(default_factory=dict)
    """Id -> what runs applied, with the previous state."""
    live: Mapping[str, Fields] = field(default_factory=dict)
    """Id -> present state."""
    error: str = ""
    """Why neither could be read."""


@dataclass(frozen=True)
class Observed:
    """One Spark. Its state files are each known, or in ``unreadable``."""

    arch: str
    user: User
    memory_total_mib: int
    memory_available_mib: int
    disks: Mapping[str, Disk]
    """By what is stored there; of several runtimes, the first one's is IMAGES, others have their names."""
    instances: tuple[ObservedInstance, ...]
    images: Mapping[str, ObservedImage | None]
    units: Mapping[str, ObservedUnit]
    generations: Mapping[str, CurrentGeneration]
    """The record of each service: the generation that was promoted last."""
    rollout: str
    """Id of a rollout in progress, or ""."""
    paths: Mapping[str, ObservedPath]
    weights: Mapping[str, Mapping[str, tuple[int, str]]]
    """``repo@revision`` -> file -> (bytes or -1 for a broken link, blob name)."""
    listeners: Mapping[int, Listener]
    toolkit: tuple[str, ...] = ()
    """What gives a container the GPU: programs of the NVIDIA container toolkit, CDI files."""
    registry_layers: bool = False
    """Whether missing images must arrive with their layers as the registry sends them."""
    hashed: Mapping[str, Mapping[str, tuple[str, bool]]] = field(default_factory=dict)
    """``repo@revision`` -> file -> (expected blob name, whether the hash of its present state matched); only
    files that were hashed."""
    fetched: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Bytes of what sparkfleet fetched: ``images`` by reference, ``revisions`` by the snapshot's path."""
    stored: Stored | None = None
    """What is stored on the disks; None: not requested."""
    resources: ObservedResources = ObservedResources()
    recorded: tuple[str, ...] = ()
    """Ids of the resources that runs applied; in every probe."""
    fabric: ObservedFabric | None = None
    """The links to other Sparks; None: not requested."""
    rates: Mapping[str, int] = field(default_factory=dict)
    """Last transfer rates in bytes a second: ``copy`` from another Spark, ``download``, ``pull``."""
    packages: Packages | None = None
    """What apt would install for Docker and the toolkit; None: not requested, or both are installed."""
    unreadable: Mapping[str, Diagnostic] = field(default_factory=dict)
    """Name of a state file -> why it cannot be read. Its contents are unknown, not absent."""
    machine: ObservedMachine = field(default_factory=lambda: unknown_machine("not read"))
    """What is compared with other hosts."""
    stops: Mapping[str, StopRecord] = field(default_factory=dict)
    """By service: who stopped it since its last start by sparkfleet."""

    def unreadable_record(self, service: str) -> Diagnostic | None:
        """Return why a service's records cannot be read; None: they can, or there are none."""
        return self.unreadable.get(record_name(service)) or self.unreadable.get(stop_name(service))

    @property
    def unknown_needs(self) -> tuple[Diagnostic, ...]:
        """Return why it is unknown what services need, or what sparkfleet fetched."""
        files = (name for name in self.unreadable if name.startswith("services/") or name == "staged.json")
        return tuple(self.unreadable[name] for name in files)

    def port_of(self, service: str) -> int | None:
        """Return the port in the record of a service; None without a record."""
        record = self.generations.get(service)
        return record.port if record else None

    def runs(self, service: str) -> bool:
        """Return whether an instance of a service runs, or systemd starts one."""
        instance, unit = self.owned().get(service), self.units.get(f"sparkfleet-{service}.service")
        return bool((instance and instance.running) or (unit and unit.active in {"active", "activating"}))

    def is_stopped(self, service: str) -> bool:
        """Return whether a service was stopped on purpose and has not been started since, even by hand."""
        return service in self.stops and not self.runs(service)

    def owned(self) -> dict[str, ObservedInstance]:
        """Return the current instance of each service; of two, that in the runtime of the record."""
        current = (one for one in self.instances if role_of(one) is Role.CURRENT)
        recorded = {one.service: one.runtime for one in self.generations.values()}
        in_order = sorted(current, key=lambda one: recorded.get(one.service) == one.runtime)
        return {one.service: one for one in in_order}

    def disk_of(self, runtime: str) -> str:
        """Return which of ``disks`` has the images and instances of a runtime."""
        return runtime if runtime in self.disks else IMAGES


@dataclass(frozen=True)
class WithoutRuntime(Diagnostic):
    """A runtime alone did not respond: why the Spark is unknown, and everything else about it."""

    runtime: str = ""
    state: str = ""
    """missing, down, hangs ..."""
    rest: Observed | None = field(default=None, compare=False, repr=False)
    """Everything else; its instances and images are unknown, not absent."""

    @property
    def plain(self) -> Diagnostic:
        """Return the problem alone."""
        return Diagnostic(self.location, self.message, self.expected, self.hint, self.related, code=self.code)


def role_of(instance: ObservedInstance) -> Role | None:
    """Return the role of an instance for its service; None: it is not managed, or was renamed."""
    return runtimes.get(instance.runtime).role(instance)


def record_name(service: str) -> str:
    """Return the name of a service's record in the state directory."""
    return f"services/{service}/current.json"


def stop_name(service: str) -> str:
    """Return the name of the record of a service's stop in the state directory."""
    return f"services/{service}/stop.json"


def state_path(name: str) -> str:
    """Return the path of a file in the state directory."""
    return f"{STATE_DIR}/{name}"
