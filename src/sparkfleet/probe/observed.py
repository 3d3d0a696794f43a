"""What the probe saw of one Spark, typed. Parts that could not be read are ``Unknown``, never absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sparkfleet.contract import codec
from sparkfleet.contract.codec import Document
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.contract.generation import STATE_DIR, CurrentGeneration
from sparkfleet.contract.state import Rates, Staged
from sparkfleet.probe import links
from sparkfleet.probe.packages import Packages, read_packages
from sparkfleet.probe.stored import Stored, read_stored

T = TypeVar("T")


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
    """A file system: bytes, and the path that was asked for."""

    path: str
    total: int
    free: int
    read_only: bool = False


@dataclass(frozen=True)
class PathSeen:
    """What lies at a path; ``kind`` is file, directory, link, other or absent."""

    kind: str
    mode: str = ""
    user: str = ""
    group: str = ""
    size: int = field(default=0, compare=False)
    """Bytes; of a directory they change with its content, which is no reason for another plan."""
    sha256: str = ""


@dataclass(frozen=True)
class ImageSeen:
    """An image that is on the Spark."""

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
    """A container; ``config`` and ``host`` are docker's own inspect data (foreign containers: only who they
    are).
    """

    id: str
    name: str
    image_id: str
    state: str
    started_at: str
    service: str
    """Value of our label, "" for a foreign container."""
    config: Mapping[str, Any]
    host: Mapping[str, Any]

    @property
    def running(self) -> bool:
        """Tell whether the container runs."""
        return self.state == "running"

    @property
    def ports(self) -> frozenset[int]:
        """Return the Spark's ports that docker publishes for this container (none with host networking)."""
        bindings = self.host.get("PortBindings") or {}
        found = (entry.get("HostPort") for entries in bindings.values() for entry in entries or ())
        return frozenset(int(port) for port in found if port)


@dataclass(frozen=True)
class UnitSeen:
    """A systemd unit of ours."""

    text: str | None
    drop_ins: Mapping[str, str] = field(default_factory=dict)
    active: str = ""
    sub: str = ""
    enabled: str = ""
    reload: bool = False
    result: str = ""
    status: str = ""
    """What its program says of itself."""


@dataclass(frozen=True)
class Listener:
    """Who listens on a TCP port."""

    pid: int
    command: str
    cgroup: str = ""


Fields = Mapping[str, Any]
"""Field -> value of an item, as ``probe/looks/prepared.py`` tells it."""


@dataclass(frozen=True)
class Items:
    """What is declared of the Spark itself, and what runs put there."""

    record: Mapping[str, Fields] = field(default_factory=dict)
    """Id -> kind, key, arg, what was put, and what was there before."""
    live: Mapping[str, Fields] = field(default_factory=dict)
    """Id -> how it is now."""
    error: str = ""
    """Why neither could be read."""


@dataclass(frozen=True)
class Observed:
    """One Spark as it is. ``unknown`` lists what could not be read: with it, nothing is planned."""

    arch: str
    user: User
    memory_total_mib: int
    memory_available_mib: int
    disks: Mapping[str, Disk]
    docker_version: str
    containers: tuple[ContainerSeen, ...]
    images: Mapping[str, ImageSeen | None]
    units: Mapping[str, UnitSeen]
    generations: Mapping[str, CurrentGeneration]
    """The record of each service: the generation that was promoted last."""
    rollout: str
    """Id of a rollout in progress, or ""."""
    paths: Mapping[str, PathSeen]
    weights: Mapping[str, Mapping[str, tuple[int, str]]]
    """``repo@revision`` -> file -> (bytes or -1 for a broken link, blob name)."""
    listeners: Mapping[int, Listener]
    toolkit: tuple[str, ...] = ()
    """What lets a container see the GPU: programs of the NVIDIA container toolkit, CDI files."""
    hashed: Mapping[str, Mapping[str, tuple[str, bool]]] = field(default_factory=dict)
    """``repo@revision`` -> file -> (blob name that it was hashed for in its present state, whether it is it);
    a file that was not hashed is not in it."""
    brought: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Bytes of what sparkfleet brought: ``images`` by reference, ``revisions`` by the snapshot's path."""
    stored: Stored | None = None
    """What lies on the disks; None where it was not asked for."""
    items: Items = Items()
    recorded: tuple[str, ...] = ()
    """Ids of what runs put on the Spark itself; known by every look."""
    fabric: links.FabricSeen | None = None
    """The links to other Sparks; None: they were not asked for."""
    rates: Mapping[str, int] = field(default_factory=dict)
    """How fast it fetched last, in bytes a second: ``copy`` from another Spark, ``download``, ``pull``."""
    packages: Packages | None = None
    """What apt would install for Docker and the toolkit; None: not asked, or both are there."""

    def container(self, name: str) -> ContainerSeen | None:
        """Return the container of that name."""
        return next((container for container in self.containers if container.name == name), None)

    def port_of(self, service: str) -> int | None:
        """Return the port in the record of a service; None without a record."""
        record = self.generations.get(service)
        return record.port if record else None

    def owned(self) -> dict[str, ContainerSeen]:
        """Return our containers under the names of their services, set-aside ones (``.old``, ``.next``) left
        out.
        """
        return {c.name: c for c in self.containers if c.service and c.service == c.name}


@dataclass(frozen=True)
class WithoutDocker(Diagnostic):
    """Docker alone could not be asked: a Spark that is unknown, and what is known of it all the same."""

    state: str = ""
    """missing, down, hangs ..."""
    rest: Observed | None = field(default=None, compare=False, repr=False)
    """All else. That it has no containers and images only means that nobody could tell."""

    @property
    def plain(self) -> Diagnostic:
        """Return the problem alone."""
        return Diagnostic(self.location, self.message, self.expected, self.hint, self.related, code=self.code)


DOCKER_REMEDIES = {
    "missing": "install Docker (sudo apt-get install docker-ce, or docker.io), or declare "
    "`prepare: {docker: install}`; then run again",
    "down": "sudo systemctl start docker; if it fails: journalctl -u docker",
    "hangs": "journalctl -u docker; df -h /var/lib/docker (a restart of docker stops what serves)",
    "denied": "let the login user use sudo, or add it to the group docker",
}


def read_answer(host: str, text: str) -> Observed | Diagnostic:
    """Return the typed answer of the probe, or all that makes this Spark unknown."""
    data = decoded(host, text)
    return data if isinstance(data, Diagnostic) else understood(host, data)


def decoded(host: str, text: str) -> dict[str, Any] | Diagnostic:
    """Return the JSON object of an answer of the probe."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _wrong_answer(host, f"cannot be read: {error}")
    if not isinstance(data, dict):
        return _wrong_answer(host, "is not a JSON object")
    return data


def _wrong_answer(host: str, found: str, expected: str = "") -> Diagnostic:
    return Diagnostic(host, f"the probe's answer {found}", expected, "run again with -vvv", code=codec.SHAPE)


def understood(host: str, data: dict[str, Any]) -> Observed | Diagnostic:
    """Return the decoded answer of the probe, typed, or all that makes this Spark unknown."""
    try:
        ProbeParts.from_json(data)
        diagnostics = _diagnostics(host, data)
        docker = _docker_diagnostic(host, data)
        if docker and not diagnostics:
            nothing = {"version": "", "containers": [], "images": {}}
            rest = _observed({**data, "docker": nothing})
            state = str(data["docker"].get("state", ""))
            return WithoutDocker(
                docker.location,
                docker.message,
                docker.expected,
                docker.hint,
                (),
                state,
                rest,
                code=docker.code,
            )
        return combine(*diagnostics, docker) or _observed(data)
    except codec.ContractError as error:
        wrong = error.diagnostic
        return _wrong_answer(host, f"has an unexpected format: {wrong.message}", wrong.expected)


def sudo_diagnostic(host: str, said: str, source: str = "") -> Diagnostic:
    """Return what is told of a Spark whose login user may not use sudo; ``source``: of the password given."""
    if source:
        return Diagnostic(
            host,
            f"sudo refused with the password of {source}: {said}",
            "the login user's correct password",
            f"ssh -t {host} sudo -k true (it asks for the password), then fix {source}; it was tried once",
            code="sudo-denied",
        )
    return Diagnostic(
        host,
        f"sudo refused: {said}",
        "the password for sudo, or sudo without one, for the login user",
        "declare `ssh: {sudo_password: ask}` in the host file, or set SPARKFLEET_SUDO_PASSWORD; or, once and "
        f'for all, on {host}: echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/$USER',
        code="sudo-denied",
    )


def _diagnostics(host: str, data: Mapping[str, Any]) -> list[Diagnostic]:
    """Return everything that keeps this Spark from being known; nothing that only follows from sudo."""
    sudo = data["sudo"]
    root = sudo.get("state") == "ok"
    found = [] if root else [sudo_diagnostic(host, sudo.get("error", ""))]
    systemd = data["systemd"]
    if systemd.get("state") != "ok" and (root or "error" not in systemd):
        found.append(
            Diagnostic(
                host,
                f"systemd {systemd.get('state', 'error')}: "
                f"{systemd.get('error', 'it is not the init system')}",
                "systemd as init, as on DGX OS",
                code="systemd-unavailable",
            )
        )
    return found + (_unreadable(host, data) if root else [])


def _docker_diagnostic(host: str, data: Mapping[str, Any]) -> Diagnostic | None:
    docker = data["docker"]
    state = docker.get("state", "error")
    root = data["sudo"].get("state") == "ok"
    if state == "ok" or (not root and state in {"denied", "error"}):
        return None
    return Diagnostic(
        host,
        f"Docker {state}: {docker.get('error', '')}",
        "a Docker daemon that responds",
        DOCKER_REMEDIES.get(state, "docker info on the Spark shows more"),
        code="docker-unavailable",
    )


def _unreadable(host: str, data: Mapping[str, Any]) -> list[Diagnostic]:
    asked = (part for part in ("stored", "fabric") if data.get(part) is not None)
    names = ("user", "memory", "state", "weights", "listeners", "toolkit", *asked)
    parts = {name: data[name] for name in names}
    remedy = "fix it, then run again"
    found = [
        Diagnostic(
            host, f"{name} could not be read: {seen['error']}", hint=remedy, code="host-state-unreadable"
        )
        for group in (parts, data["disks"], data["paths"])
        for name, seen in group.items()
        if "error" in seen
    ]
    return found + _wrong_files(host, data["state"])


def _wrong_files(host: str, state: Mapping[str, Any]) -> list[Diagnostic]:
    """Return each file of the state directory that cannot be read as what it should be."""
    found = []
    generations = state.get("generations")
    for name, data in generations.items() if isinstance(generations, dict) else ():
        path = f"{STATE_DIR}/services/{name}/current.json"
        found.append(_wrong_file(host, path, CurrentGeneration, data))
    for file, kind, part in (("rates.json", Rates, "rates"), ("staged.json", Staged, "staged")):
        found.append(_wrong_file(host, f"{STATE_DIR}/{file}", kind, state.get(part, {})))
    return [diagnostic for diagnostic in found if diagnostic]


def _wrong_file(host: str, path: str, kind: type[codec.Document], data: Any) -> Diagnostic | None:
    if isinstance(data, dict) and "error" in data:
        message, expected, hint, code = str(data["error"]), "", "", codec.SHAPE
    else:
        try:
            kind.from_json(data, path)
        except codec.ContractError as error:
            wrong = error.diagnostic
            message, expected, hint, code = wrong.message, wrong.expected, wrong.hint, wrong.code
        else:
            return None
    remove = f"sudo rm {path}; then run again"
    return Diagnostic(host, f"{path}: {message}", expected, hint or remove, code=code)


@dataclass(frozen=True)
class _PartState:
    state: str = ""
    error: str = ""


@dataclass(frozen=True)
class ProbeParts(Document):
    """The parts of the probe's answer, each read by itself or with its error."""

    NAME = "answer of the probe"

    sudo: _PartState
    systemd: _PartState
    docker: _PartState
    user: Mapping[str, Any]
    memory: Mapping[str, Any]
    state: Mapping[str, Any]
    disks: Mapping[str, Mapping[str, Any]]
    paths: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, Any]
    listeners: Mapping[str, Any]
    toolkit: Mapping[str, Any]
    items: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, Any] | None = None
    fabric: Mapping[str, Any] | None = None
    packages: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _HostPart:
    arch: str


@dataclass(frozen=True)
class _MemoryPart:
    total_mib: int
    available_mib: int


@dataclass(frozen=True)
class _ContainerPart:
    id: str
    name: str
    image_id: str
    state: str
    started_at: str
    config: Mapping[str, Any]
    host: Mapping[str, Any]

    def seen(self) -> ContainerSeen:
        """Return the container, with the service that its label names."""
        labels = self.config.get("Labels") or {}
        service = str(labels.get("io.sparkfleet.service", ""))
        own = (self.id, self.name, self.image_id, self.state, self.started_at, service)
        return ContainerSeen(*own, self.config, self.host)


@dataclass(frozen=True)
class _DockerPart:
    version: str
    containers: tuple[_ContainerPart, ...]
    images: Mapping[str, ImageSeen | None]


@dataclass(frozen=True)
class _SystemdPart:
    units: Mapping[str, UnitSeen] = field(default_factory=dict)


@dataclass(frozen=True)
class _StatePart:
    generations: Mapping[str, CurrentGeneration]
    rollout: str
    recorded: tuple[str, ...] = ()
    rates: Rates = field(default_factory=Rates)
    staged: Staged = field(default_factory=Staged)


@dataclass(frozen=True)
class _WeightFile:
    size: int
    blob: str
    hashed: str | None = None
    ok: bool = False


@dataclass(frozen=True)
class _ToolkitPart:
    programs: tuple[str, ...]
    cdi: tuple[str, ...]


@dataclass(frozen=True)
class ProbeAnswer(Document):
    """The probe's answer when every part could be read."""

    NAME = "answer of the probe"

    host: _HostPart
    user: User
    memory: _MemoryPart
    disks: Mapping[str, Disk]
    docker: _DockerPart
    systemd: _SystemdPart
    state: _StatePart
    paths: Mapping[str, PathSeen]
    weights: Mapping[str, Mapping[str, _WeightFile]]
    listeners: Mapping[str, Listener]
    toolkit: _ToolkitPart
    items: Items = Items()
    stored: Any = None
    fabric: Any = None
    packages: Any = None


def _observed(data: Mapping[str, Any]) -> Observed:
    """Return the typed answer. Raise ContractError."""
    answer = ProbeAnswer.from_json(data)
    staged = answer.state.staged
    return Observed(
        arch=answer.host.arch,
        user=answer.user,
        memory_total_mib=answer.memory.total_mib,
        memory_available_mib=answer.memory.available_mib,
        disks=answer.disks,
        docker_version=answer.docker.version,
        containers=tuple(container.seen() for container in answer.docker.containers),
        images=answer.docker.images,
        units=answer.systemd.units,
        generations=answer.state.generations,
        rollout=answer.state.rollout,
        brought={
            "images": {key: one.bytes for key, one in staged.images.items()},
            "revisions": {key: one.bytes for key, one in staged.revisions.items()},
        },
        paths=answer.paths,
        weights={
            key: {name: (one.size, one.blob) for name, one in files.items()}
            for key, files in answer.weights.items()
        },
        hashed={
            key: {name: (one.hashed, one.ok) for name, one in files.items() if one.hashed is not None}
            for key, files in answer.weights.items()
        },
        listeners={_port(port): seen for port, seen in answer.listeners.items()},
        toolkit=(*answer.toolkit.programs, *answer.toolkit.cdi),
        stored=_part("stored", read_stored, answer.stored),
        items=answer.items,
        recorded=answer.state.recorded,
        rates=answer.state.rates.known(),
        fabric=_part("fabric", links.read, answer.fabric),
        packages=_part("packages", read_packages, answer.packages),
    )


def _port(text: str) -> int:
    if not text.isdecimal():
        raise codec.ContractError(
            Diagnostic("", f"listeners: found the key {text[:20]!r}", "port numbers", code=codec.SHAPE)
        )
    return int(text)


def _part(name: str, read: Callable[[Any], T], data: Any) -> T | None:
    """Return a part that its own module reads; None where it was not asked for. Raise ContractError."""
    if data is None:
        return None
    try:
        return read(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        found = f"{name}: {type(error).__name__}: {error}"
        raise codec.ContractError(
            Diagnostic("", found, "as its program writes it", code=codec.SHAPE)
        ) from None
