"""What the probe saw of one Spark, typed. Parts that could not be read are ``Unknown``, never absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.probe import links
from sparkfleet.probe.packages import Packages, read_packages
from sparkfleet.probe.stored import Stored, read_stored


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
    size: int = 0
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
    generations: Mapping[str, Mapping[str, Any]]
    """Per service what the Spark keeps of the generation that was promoted last."""
    swap: str
    """Id of a swap that is still going on, or ""."""
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
        return Diagnostic(self.location, self.message, self.expected, self.hint, self.related)


DOCKER_REMEDIES = {
    "missing": "install Docker (sudo apt-get install docker-ce, or docker.io), or declare "
    "`prepare: {docker: install}`; then run again",
    "down": "sudo systemctl start docker; if it fails: journalctl -u docker",
    "hangs": "journalctl -u docker; df -h /var/lib/docker (a restart of docker stops what serves)",
    "denied": "let the login user use sudo, or add it to the group docker",
}


def read_answer(host: str, text: str) -> Observed | Diagnostic:
    """Return the typed answer of the probe, or all that makes this Spark unknown."""
    try:
        data = json.loads(text)
    except ValueError as error:
        return unreadable(host, error)
    return understood(host, data)


def unreadable(host: str, error: ValueError) -> Diagnostic:
    """Return what is told of an answer that is no JSON."""
    return Diagnostic(host, f"the probe's answer cannot be read: {error}", hint="run again with -vvv")


def understood(host: str, data: Mapping[str, Any]) -> Observed | Diagnostic:
    """Return the decoded answer of the probe, typed, or all that makes this Spark unknown."""
    diagnostics = _diagnostics(host, data)
    docker = _docker_diagnostic(host, data)
    if docker and not diagnostics:
        nothing = {"version": "", "containers": [], "images": {}}
        rest = _observed({**data, "docker": nothing})
        state = data["docker"].get("state", "")
        return WithoutDocker(docker.location, docker.message, docker.expected, docker.hint, (), state, rest)
    return combine(*diagnostics, docker) or _observed(data)


def sudo_diagnostic(host: str, said: str, source: str = "") -> Diagnostic:
    """Return what is told of a Spark whose login user may not use sudo; ``source``: of the password given."""
    if source:
        return Diagnostic(
            host,
            f"sudo refused with the password of {source}: {said}",
            "the login user's password",
            f"ssh -t {host} sudo -k true (it asks for the password), then mend {source}; it was tried once",
        )
    return Diagnostic(
        host,
        f"sudo refused: {said}",
        "the password for sudo, or sudo without one, for the login user",
        "declare `ssh: {sudo_password: ask}` in the host file, or set SPARKFLEET_SUDO_PASSWORD; or, once and "
        f'for all, on {host}: echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/$USER',
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
        "a Docker daemon that answers",
        DOCKER_REMEDIES.get(state, "docker info on the Spark shows more"),
    )


def _unreadable(host: str, data: Mapping[str, Any]) -> list[Diagnostic]:
    asked = (part for part in ("stored", "fabric") if part in data)
    names = ("user", "memory", "state", "weights", "listeners", "toolkit", *asked)
    parts = {name: data[name] for name in names}
    remedy = "mend it, then run again"
    found = [
        Diagnostic(host, f"{name} could not be read: {seen['error']}", hint=remedy)
        for group in (parts, data["disks"], data["paths"])
        for name, seen in group.items()
        if "error" in seen
    ]
    return found + [
        Diagnostic(
            host,
            f"/var/lib/sparkfleet/services/{name}/current.json is {generation['error']}",
            hint=f"sudo rm /var/lib/sparkfleet/services/{name}/current.json; then run again",
        )
        for name, generation in data["state"].get("generations", {}).items()
        if "error" in generation
    ]


def _observed(data: Mapping[str, Any]) -> Observed:
    user = data["user"]
    return Observed(
        arch=data["host"]["arch"],
        user=User(user["name"], user["home"], user["uid"], user["gid"], user["group"], tuple(user["groups"])),
        memory_total_mib=data["memory"]["total_mib"],
        memory_available_mib=data["memory"]["available_mib"],
        disks={name: Disk(**seen) for name, seen in data["disks"].items()},
        docker_version=data["docker"]["version"],
        containers=tuple(_container(seen) for seen in data["docker"]["containers"]),
        images={ref: _image(seen) for ref, seen in data["docker"]["images"].items()},
        units={name: UnitSeen(**seen) for name, seen in data["systemd"].get("units", {}).items()},
        generations=data["state"]["generations"],
        swap=data["state"]["swap"],
        brought=data["state"].get("brought") or {},
        paths={path: _path(seen) for path, seen in data["paths"].items()},
        weights={
            key: {name: (seen["size"], seen["blob"]) for name, seen in files.items()}
            for key, files in data["weights"].items()
        },
        hashed={
            key: {name: (seen["hashed"], seen["ok"]) for name, seen in files.items() if "hashed" in seen}
            for key, files in data["weights"].items()
        },
        listeners={
            int(port): Listener(seen["pid"], seen["command"], seen.get("cgroup", ""))
            for port, seen in data["listeners"].items()
        },
        toolkit=(*data["toolkit"]["programs"], *data["toolkit"]["cdi"]),
        stored=read_stored(data["stored"]) if "stored" in data else None,
        items=Items(**data.get("items", {})),
        recorded=tuple(data["state"].get("recorded", ())),
        rates=data["state"].get("rates", {}),
        fabric=links.read(data["fabric"]) if "fabric" in data else None,
        packages=read_packages(data["packages"]) if "packages" in data else None,
    )


def _path(seen: Mapping[str, Any]) -> PathSeen:
    return PathSeen(**{key: value for key, value in seen.items() if key != "target"})


def _image(seen: Mapping[str, Any] | None) -> ImageSeen | None:
    if seen is None:
        return None
    return ImageSeen(
        id=seen["id"],
        digests=tuple(seen["digests"]),
        entrypoint=tuple(seen["entrypoint"]),
        env=tuple(seen["env"]),
        labels=seen["labels"],
        user=seen["user"],
        working_dir=seen["working_dir"],
        size=seen["size"],
    )


def _container(seen: Mapping[str, Any]) -> ContainerSeen:
    labels = seen["config"].get("Labels") or {}
    return ContainerSeen(
        id=seen["id"],
        name=seen["name"],
        image_id=seen["image_id"],
        state=seen["state"],
        started_at=seen["started_at"],
        service=labels.get("io.sparkfleet.service", ""),
        config=seen["config"],
        host=seen["host"],
    )
