"""The desired state of a fleet, merged and complete; frozen dataclasses."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from sparkfleet import engines, runtimes
from sparkfleet.contract import codec
from sparkfleet.contract.generation import Gate
from sparkfleet.desired_state.derived_packages import DerivedPackages, reference
from sparkfleet.resources.base import Resource
from sparkfleet.runtimes import Container

FlagValue = bool | int | float | str | list[Any] | dict[str, Any] | None
"""Value of an engine's flag: true = bare flag, false = its ``--no-`` form, null = remove the flag."""

COMMIT = 40
"""Digits of a full commit."""


@dataclass(frozen=True)
class ImageRef:
    """A container image by name, tag and digest, with values from the lock file."""

    repository: str
    """With its registry: ``docker.io/vllm/vllm-openai``, ``nvcr.io/nvidia/vllm``."""
    tag: str = ""
    digest: str = ""
    entrypoint: tuple[str, ...] = ()
    engine_version: str = ""
    """Version of the engine in the image; "" if unknown."""
    size: int = 0
    """Bytes to pull (compressed)."""
    cuda: str = ""
    """Version of CUDA, from the image's variables; "" if unknown."""
    derived_packages: DerivedPackages | None = None
    """Python packages that a derived image adds. All other fields describe the base image."""

    @property
    def base(self) -> ImageRef:
        """Return the image without derived packages."""
        return dataclasses.replace(self, derived_packages=None) if self.derived_packages else self

    @property
    def pull_ref(self) -> str:
        """Return the reference for docker: ``repository@digest``, or the local name of a derived image."""
        if self.derived_packages:
            return reference(self.digest, self.derived_packages)
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    @property
    def full_ref(self) -> str:
        """Return ``repository:tag@digest``, from which containers are created: `docker ps` shows the tag."""
        plain = not self.derived_packages and self.tag and self.digest
        return f"{self.repository}:{self.tag}@{self.digest}" if plain else self.pull_ref

    @property
    def names(self) -> tuple[str, ...]:
        """Return the references of the image and of its base."""
        return (self.pull_ref, self.base.pull_ref) if self.derived_packages else (self.pull_ref,)

    @property
    def mark(self) -> str:
        """Return the part of a full name that identifies the image."""
        return self.pull_ref if self.derived_packages else self.digest

    @property
    def display(self) -> str:
        """Return the short name: without ``docker.io/``, with the tag."""
        name = re.sub(r"^docker\.io/(library/)?", "", self.repository)
        named = f"{name}:{self.tag}" if self.tag else name
        return f"{named} + {', '.join(self.derived_packages.added)}" if self.derived_packages else named


@dataclass(frozen=True)
class WeightFile:
    """One file of a model repository at its locked commit."""

    path: str
    size: int
    """Bytes."""
    sha256: str = ""
    """Of files that the hub stores as LFS/Xet; else ""."""
    blob: str = ""
    """Blob id of the hub (etag): sha256 for LFS, else git object id. File name in blobs/ of the cache."""


@dataclass(frozen=True)
class Weights:
    """A model repository at a commit, with the files that the engine loads."""

    repo: str
    revision: str
    files: tuple[WeightFile, ...] = ()
    gated: bool = False
    config: tuple[tuple[str, Any], ...] = ()
    """Locked keys of ``config.json`` at that commit, for checks and the memory estimate."""
    file: str = ""
    """Pattern of the served model in a repository of several (``*Q4_K_M.gguf``)."""

    @property
    def directory(self) -> str:
        """Return the directory of the commit in the container."""
        return snapshot_directory(self.repo, self.revision)

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(file.size for file in self.files)


MODELS_IN_CONTAINER = "/models"
"""Mount point of the model store: HF_HOME of every engine."""


def snapshot_directory(repo: str, revision: str) -> str:
    """Return the directory of a repository's commit in the container."""
    return f"{MODELS_IN_CONTAINER}/hub/models--{repo.replace('/', '--')}/snapshots/{revision}"


@dataclass(frozen=True)
class Service:
    """One service, complete. ``origin`` has the ``file:line`` of each field."""

    name: str
    recipe: str
    port: int
    image: ImageRef | None
    """None: its runtime has no images."""
    weights: Weights
    served_name: str
    flags: tuple[tuple[str, FlagValue], ...] = ()
    """In order, without the model, ``--port``, ``--host``, ``--served-model-name`` and ``--revision``: those
    are separate fields, and an error as flags."""
    env: tuple[tuple[str, str], ...] = ()
    container: Container = field(default_factory=Container)
    gate: Gate = field(default_factory=Gate)
    origin: tuple[tuple[str, str], ...] = ()
    drafters: tuple[Weights, ...] = ()
    """Further repositories in flags: the drafter of speculative decoding, LoRA adapters."""
    requires_engine: str = ""
    """Version range of the engine that the recipe requires (``>=0.17.1``); "" for any."""
    requires_packages: tuple[tuple[str, str], ...] = ()
    """Python packages and version ranges that the service requires."""
    requires_sparks: int = 1
    """Minimum number of Sparks."""
    limitations: tuple[str, ...] = ()
    """What the recipe says does not work or is not proven."""
    engine: str = engines.DEFAULT
    """Name of the engine: a folder of ``sparkfleet.engines``."""
    runtime: str = runtimes.DEFAULT
    """Name of the runtime: a folder of ``sparkfleet.runtimes``."""
    served_aliases: tuple[str, ...] = ()
    """Further names of the model in the API."""

    @property
    def is_pinned(self) -> bool:
        """Return whether the digest of the image and the commits of all repositories are known."""
        image = self.image is None or bool(self.image.digest)
        return image and all(len(one.revision) == COMMIT for one in self.repositories)

    @property
    def image_names(self) -> tuple[str, ...]:
        """Return the references of the image and of its base; () without an image."""
        return self.image.names if self.image else ()

    @property
    def image_ref(self) -> str:
        """Return the full reference of the image; "" without one."""
        return self.image.full_ref if self.image else ""

    @property
    def engine_source(self) -> str:
        """Return what the engine comes from, for people: the image, else the runtime."""
        return self.image.display if self.image else f"the runtime {self.runtime}"

    @property
    def engine_version(self) -> str:
        """Return the version of the engine; "" if unknown."""
        return self.image.engine_version if self.image else ""

    @property
    def build(self) -> str:
        """Return what identifies the build of the engine: compile caches of another one are not used."""
        if self.image is None:
            return self.runtime
        return self.image.digest.removeprefix("sha256:")[:12] or "unpinned"

    @property
    def repositories(self) -> tuple[Weights, ...]:
        """Return every repository that must be on the Spark: the model, then its drafters."""
        return (self.weights, *self.drafters)


@dataclass(frozen=True)
class Paths:
    """Directories on the Spark, as written (``~``: the login user's home, not yet expanded)."""

    models: str = engines.MODELS_DIR
    cache: str = engines.CACHE_DIR


@dataclass(frozen=True)
class Fabric:
    """Links between the Sparks of a cluster."""

    network: str = "192.168.176.0/20"
    """Network of the links' addresses: one /24 per rail."""
    mtu: int = 9000
    rendezvous: str = "fabric"
    """Network for the rendezvous of the ranks: "fabric" or "management"."""
    tcp: bool = False
    """Whether NCCL may use plain TCP where RDMA does not work."""
    ring: bool = False
    """Whether three Sparks are cabled with each other: p0 of each to p1 of the next."""


@dataclass(frozen=True)
class Member:
    """A Spark's place in a cluster."""

    cluster: str
    rank: int
    """0 is the head, which serves the API."""
    hosts: tuple[str, ...]
    """Names of all members, by rank."""
    executor: str
    """How the engine starts its ranks (``engines.Executor``)."""
    fabric: Fabric = Fabric()
    service: str = ""
    """Name of the cluster's service, which each member has; "" for none."""


@dataclass(frozen=True)
class Prepare:
    """Host state of a Spark."""

    docker: str = "check"
    """check or install."""
    offline: bool = False
    """Whether the Spark has no access to registry and hub by intent."""
    resources: tuple[Resource, ...] = ()
    """Declared host state, in the order in which it is applied."""


AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Stage:
    """How images and weights reach a fleet."""

    seed: str = AUTO
    """Name of the Spark that downloads for the others, ``auto``, or ``none``: each downloads for itself."""
    parallel: int = 2
    """Concurrent receivers per Spark."""
    mirror: str = ""
    """Directory of the offline mirror on the operator's machine; "": registry and hub are used."""


@dataclass(frozen=True)
class Host:
    """The desired state of one Spark."""

    name: str
    services: tuple[Service, ...] = ()
    paths: Paths = Paths()
    reserve_gib: float = 12.0
    min_available_gib: float = 2.0
    memory_gib: float = 0.0
    """Memory of the Spark as declared (GiB), for checks without a connection; 0: not declared."""
    hf_endpoint: str = ""
    hf_token: str = ""
    """Source of the token (``env:NAME``), not the token."""
    sudo_password: str = ""
    """Source of the sudo password, not the password."""
    ssh: tuple[tuple[str, Any], ...] = ()
    """pyinfra host data: ``ssh_hostname``, ``ssh_port`` ..."""
    file: str = ""
    ignore_rules: tuple[tuple[str, str], ...] = ()
    """Rule id -> reason why it is ignored."""
    member: Member | None = None
    """Its place in a cluster, if any."""
    prepare: Prepare = Prepare()
    stage: Stage = Stage()


@dataclass(frozen=True)
class Mirror:
    """Mirror of a registry, for requests of the operator's machine."""

    registry: str
    url: str
    ca_file: str = ""


@dataclass(frozen=True)
class PackageIndex:
    """Index of the Python packages for derived images, and their platform."""

    url: str = ""
    """URL; "": the index in pip's configuration on this machine."""
    python: str = "3.12"
    machine: str = "aarch64"


@dataclass(frozen=True)
class Fleet:
    """All Sparks of one inventory."""

    name: str
    hosts: tuple[Host, ...] = ()
    warnings: tuple[str, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    hf_endpoint: str = ""
    hf_token: str = ""
    """Source of the token, not the token."""
    index: PackageIndex = PackageIndex()

    def host(self, name: str) -> Host:
        """Return the host of that name; ``KeyError`` when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)


def host_from_json(data: object) -> Host:
    """Return the host from ``codec.plain``, also after serialization."""
    return codec.read(Host, data, "host data")
