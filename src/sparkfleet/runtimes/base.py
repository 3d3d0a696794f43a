"""What a runtime is to the programs on a Spark: a driver that creates, starts, watches and removes workloads.

A runtime contains the process of an engine. ``docker`` runs it in a container that dockerd supervises; a
``venv`` runtime would run it as a systemd unit of its own, in a pinned Python environment. Everything outside
``runtimes/`` knows the types of this module alone. Standard library alone.

An *instance* is what a workload was created as: a container, or the systemd unit of a process. Up to three
instances of a service exist during a rollout, distinguished by their ``Role``.
"""

from __future__ import annotations

import enum
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from sparkfleet.contract.generation import Generation
from sparkfleet.contract.registry_credentials import Credential
from sparkfleet.runtimes.errors import RuntimeRefusedError, RuntimeUnavailableError

Stop = Callable[[], None]
"""Ends something that runs in the background."""


class Role(enum.Enum):
    """Which instance of a service is meant."""

    CURRENT = "current"
    """The one that the unit of the service supervises."""
    CANDIDATE = "candidate"
    """Created by a rollout, not yet proven by the gate."""
    REPLACED = "replaced"
    """Stopped by a rollout, kept until the candidate has passed."""


def is_cdi_name(device: str) -> bool:
    """Return whether a device is named by the Container Device Interface (``vendor/class=name``)."""
    kind, equals, name = device.partition("=")
    return bool(equals and name) and not device.startswith("/") and "/" in kind


@dataclass(frozen=True)
class BindMount:
    """A directory or file of the Spark as the workload sees it."""

    source: str
    target: str
    """The same as ``source`` where a runtime has no file system of its own (venv)."""
    read_only: bool = False


@dataclass(frozen=True)
class Limits:
    """Upper bounds of a workload."""

    memory: str = ""
    """As ``110g``; "" = none."""
    ulimits: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Workload:
    """What an instance runs."""

    service: str
    generation: str
    """Id of the generation that it is created for."""
    argv: tuple[str, ...]
    """The command as the runtime executes it, without what an image's entrypoint puts before it."""
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[BindMount, ...] = ()
    devices: tuple[str, ...] = ()
    """Paths of device nodes on the Spark, without those that the runtime finds by their CDI names."""
    gpus: str = ""
    """``all``, or "" for none."""
    limits: Limits = Limits()
    ports: tuple[int, ...] = ()
    image: str = ""
    """Reference of the image that it runs from; "" for a runtime without images."""
    python_environment: str = ""
    """Directory of the pinned Python environment; "" for a runtime with images."""
    definition: tuple[str, ...] = ()
    """What an instance is created from, in the runtime's own form; a rollback creates exactly this again.
    docker: argv after ``docker create --name NAME``; venv: text of the workload's unit, one line each."""
    identity: tuple[str, ...] = ()
    """Equal for two workloads that need no new instance when one replaces the other."""


@dataclass(frozen=True)
class Instance:
    """One instance at one moment."""

    id: str
    """Unique and stable over renames. docker: the container's id; venv: the unit's invocation directory."""
    name: str
    running: bool
    pid: int = 0
    """Pid of its first process on the Spark, 0 when it does not run. All others end with it."""
    exit_code: int = 0
    out_of_memory: bool = False
    """The kernel's OOM killer ended it."""
    error: str = ""
    """Why the runtime could not start it."""
    started_at: str = ""
    """Changes with every start; the runtime's own spelling."""
    labels: dict[str, str] = field(default_factory=dict)
    service: str = ""
    """The service that it belongs to; "" = not managed by sparkfleet and never touched."""
    generation: str = ""
    """Id of the generation that it was created for."""
    env: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    """Ports of the Spark that the runtime publishes for it."""
    artifact: str = ""
    """Content id of what it runs from. docker: id of the image; venv: hash of the environment."""
    details: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The runtime's own description, kept as evidence after secrets were masked."""
    cgroup: str = ""
    """Part of the cgroup path of its processes; "": its id. venv: the name of its unit."""

    def has_process(self, cgroup: str) -> bool:
        """Return whether a process with this cgroup belongs to it."""
        return (self.cgroup or self.id) in cgroup


@dataclass(frozen=True)
class PortOwner:
    """A process that listens on a TCP port of the Spark; its pid is 0 if it is not visible."""

    pid: int
    command: str
    cgroup: str = ""
    """Text of /proc/PID/cgroup."""


class Runtime(Protocol):
    """The driver on the host; ``instance`` is an id or a name everywhere.

    Methods raise RuntimeUnavailableError when the daemon does not answer, else RuntimeRefusedError.
    """

    noun: str
    """What people call an instance: ``container``; venv: ``unit``."""
    daemon: str
    """What people call the daemon: ``dockerd``; venv: ``systemd``."""
    unavailable_code: str
    """Code of the diagnostic that the daemon does not answer."""
    mark: str
    """What shows that an instance is of sparkfleet. docker: ``label io.sparkfleet.service``; venv: the unit's
    first line."""
    check_command: str
    """Command that shows why the daemon does not answer."""

    def ping(self) -> None:
        """Return when the daemon answers. venv: always, systemd is there."""

    def available(self) -> bool:
        """Return whether the daemon answers, without waking one that was stopped on purpose. venv: True."""

    def is_stopping(self) -> bool:
        """Return whether the daemon stops, or was stopped, and with it its instances. venv: False."""

    def daemon_identity(self) -> str:
        """Return what changes with every start of the daemon; "" if unknown. venv: "" (never restarts)."""

    def workload(self, generation: Generation) -> Workload:
        """Return what a recorded generation runs; also of records that an older version wrote."""

    def missing(self, workload: Workload) -> str:
        """Return what the workload runs from and is not on this Spark, "" for nothing missing.

        docker: the image; venv: the Python environment.
        """

    def program_command(self, artifact: str, interpreter: str, args: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that runs a program from stdin with what a workload runs from, without network.

        docker: ``artifact`` is the image, ``interpreter`` is in it; venv: the environment, and its Python.
        """

    def data_directory(self) -> Path:
        """Return where the runtime writes: free space is checked there."""

    def content_of(self, artifact: str) -> str:
        """Return what identifies the content of an instance's artifact on every host.

        docker: hash of the image's layers and settings; venv: the artifact.
        """

    def inspect(self, instance: str) -> Instance | None:
        """Return the instance, None when there is none. venv: from ``systemctl show``."""

    def find(self, service: str, role: Role = Role.CURRENT) -> Instance | None:
        """Return what has a role of a service, managed or not; None for nothing.

        docker: the container of that name; venv: the unit that the role's link in the state directory names.
        """

    def name(self, service: str, role: Role) -> str:
        """Return what people know an instance in that role by. venv: the name of its unit."""

    def running(self) -> tuple[Instance, ...]:
        """Return all running instances, also unmanaged ones. venv: units with the mark of sparkfleet."""

    def create(self, service: str, role: Role, workload: Workload) -> str:
        """Create an instance without starting it and return its id; nothing is downloaded.

        venv: writes the workload's unit, which ``daemon-reload`` makes known.
        """

    def assign(self, instance: str, service: str, role: Role) -> None:
        """Give the instance that role; nothing else may have it. A running instance runs on.

        docker: a rename; venv: the role's link in the state directory is replaced atomically.
        """

    def adopt(self, instance: str) -> None:
        """Make the service's unit the only one that restarts the instance; a running one runs on.

        docker: its restart policy becomes ``no``; venv: nothing, its unit has ``Restart=no``.
        """

    def start(self, instance: str) -> None:
        """Start it; one that runs is fine."""

    def stop(self, instance: str, timeout_s: int) -> None:
        """SIGTERM, then SIGKILL after ``timeout_s``; return when it has ended. None there is fine."""

    def kill(self, instance: str) -> None:
        """SIGKILL; an instance that does not run is fine."""

    def holds(self, instance: Instance, owner: PortOwner, port: int) -> bool:
        """Return whether a process that listens on a port does so for the instance.

        docker: a process of its container, or dockerd's proxy; venv: a process of its unit.
        """

    def remove(self, instance: str) -> None:
        """Kill and remove it; none there is fine. docker: with its anonymous volumes; venv: unit and journal
        cursor, never the environment.
        """

    def log(self, instance: str, tail: int, since: float = 0.0) -> str:
        """Return the last ``tail`` lines of its output from ``since`` (unix time) on. venv: its journal."""

    def follow(
        self,
        instance: str,
        since: float,
        on_line: Callable[[str], None],
        on_end: Callable[[], None] = lambda: None,
        tail: int | None = None,
    ) -> Stop:
        """Call ``on_line`` for each line of output from ``since`` (unix time) on, in the background.

        ``on_end`` is called once when no more will come: the instance or the daemon ended.
        ``tail``: of the lines that are there already, only the last ones; None: all.
        """


@dataclass(frozen=True)
class Image:
    """An image on this Spark."""

    id: str
    size: int = 0
    """Bytes on disk, shared layers included."""
    labels: Mapping[str, str] = field(default_factory=dict)
    content: str = ""
    """Hash of its layers and settings. Unlike the id it is the same in every image store."""


@dataclass(frozen=True)
class ImageCommand:
    """A command that runs once in an image, as a user of the Spark and in the Spark's network."""

    name: str
    """Of its instance, which is removed when the command ends."""
    label: str
    """Key of the label, whose value is ``name``; finds instances that were left behind."""
    image: str
    argv: tuple[str, ...]
    uid: int
    gid: int
    mounts: tuple[BindMount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DerivedImage:
    """An image that results from running a program in a base image, as root and without network."""

    reference: str
    base: str
    program: tuple[str, ...]
    arguments: tuple[str, ...]
    directory: Path
    """On the Spark; read-only ``/mnt`` for the program."""
    labels: Mapping[str, str]
    instance: str
    """Name of the instance in which the program runs."""
    timeout_s: float


class DeriveError(Exception):
    """The program of a derived image failed; ``str()`` is its output."""


class Images(Protocol):
    """The images of a runtime that runs containers, on the host. A reference has a digest, a tag or is an id.

    Methods raise RuntimeUnavailableError when the daemon does not answer, else RuntimeRefusedError.
    """

    def find_image(self, reference: str) -> Image | None:
        """Return the image, None if it is not on the Spark. Only the digest counts, if there is one."""

    def pull(self, name: str, credential: Credential | None, on_progress: Callable[[int, int], None]) -> int:
        """Pull ``repository@digest``; return the bytes of the layers that were transferred.

        ``on_progress`` is called with the bytes so far and in total.
        """

    def pull_remedy(self, error: str, registry: str) -> str:
        """Return the next command after a failed pull with this error."""

    def export(self, reference: str) -> AbstractContextManager[IO[bytes]]:
        """Return the image as an archive for ``load``. Leaving the context raises if it is incomplete."""

    def load(self, archive: Path) -> None:
        """Load an exported image."""

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with its last one. RuntimeRefusedError while an instance needs it."""

    def remove_unnamed(self, label: str) -> None:
        """Remove images with the label and without a name."""

    def users(self) -> dict[str, str]:
        """Return id and image id of every instance, managed or not, running or not."""

    def data_directory(self) -> Path:
        """Return where the images are stored: free space is checked there."""

    def start_command(self, command: ImageCommand) -> subprocess.Popen[str]:
        """Start a command; its output, stderr included, is the process's stdout."""

    def remove_instances(self, label: str, prefix: str) -> None:
        """Kill and remove instances that have the label and a name with the prefix."""

    def derive(self, image: DerivedImage) -> None:
        """Create a derived image. Raise DeriveError if its program fails; nothing remains then.

        Entrypoint, environment, user and working directory stay those of the base.
        """


__all__ = [
    "BindMount",
    "DeriveError",
    "DerivedImage",
    "Image",
    "ImageCommand",
    "Images",
    "Instance",
    "Limits",
    "PortOwner",
    "Role",
    "Runtime",
    "RuntimeRefusedError",
    "RuntimeUnavailableError",
    "Stop",
    "Workload",
]
