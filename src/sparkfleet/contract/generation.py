"""A generation: one service, complete enough to be restarted without the operator.

The operator writes it, the plan compares it, the Spark stores it in
``/var/lib/sparkfleet/services/<service>/``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib import resources
from typing import Any, ClassVar, TypeVar

from sparkfleet.contract.codec import Document, Json, Migration, plain, secret, stored_as
from sparkfleet.contract.history import RunContext

STATE_DIR = "/var/lib/sparkfleet"
"""State of sparkfleet on a Spark. 0755 root; secrets are in ``/run/sparkfleet``."""

LABEL_SERVICE = "io.sparkfleet.service"
LABEL_GENERATION = "io.sparkfleet.generation"
"""Labels that prove a container is ours. Without them it is never touched."""

CACHE_IN_CONTAINER = "/compile-cache"
"""Where an engine has its compile cache: the host creates that directory again before a start."""


G = TypeVar("G", bound="Generation")


class Task(str, Enum):  # noqa: UP042  (StrEnum is not in the Python 3.10 of a host)
    """A kind of request that a model is served for. Which of them an engine has is ``Engine.tasks``."""

    __str__ = str.__str__

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    SCORE = "score"
    TRANSCRIPTION = "transcription"


@dataclass(frozen=True)
class Gate:
    """The proof that a service serves; requests go over loopback."""

    prompt: str = "What is 12*17? Answer with the number only."
    expect: str = "204"
    """Text that the answer must contain (reasoning counts as answer); empty: any non-empty answer."""
    timeout_s: int = 1800
    """Seconds from the engine's start to its first answer. The requests after it have limits of their own."""
    max_tokens: int = 512
    second_timeout_s: int = 60
    """Seconds for the second, warm answer."""
    speculative: bool = False
    """True: accepted draft tokens must be above 0 after the completions."""
    task: Task = Task.CHAT
    expect_dimensions: int = 0
    """Length of the vector that an embedding must have; 0: any."""


@dataclass(frozen=True)
class Rank:
    """A Spark's position in a cluster."""

    cluster: str
    rank: int
    """0 is the head: it answers requests and decides rollouts."""
    hosts: tuple[str, ...]
    """Names of the Sparks by rank."""
    addresses: tuple[str, ...]
    """Their addresses on the fabric by rank."""
    executor: str
    """How the engine starts its ranks (``HostEngine.cluster_starts``)."""
    fingerprint: str = stored_as("make")
    """Digest of everything that must be equal on all ranks: image, arguments, members."""
    clear: tuple[str, ...] = ()
    """Directories that are removed before each start: caches that must be equal on all ranks."""

    @property
    def is_head(self) -> bool:
        """Return whether this Spark is the head."""
        return self.rank == 0

    @property
    def address(self) -> str:
        """Return this Spark's address on the fabric."""
        return self.addresses[self.rank]

    def name(self, rank: int) -> str:
        """Return the name of a rank in messages."""
        return f"{self.hosts[rank]} ({self.addresses[rank]})"


@cache
def _early_names() -> Mapping[str, str]:
    """Return what generations of versions 1 and 2 do not name (engine, runtime), and their keys."""
    text = resources.files(__package__).joinpath("generation_names.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _name_engine(data: Json) -> Json:
    old = _early_names()
    return {
        **data,
        "engine": data.get("engine", old["engine"]),
        "engine_version": data.get(old["engine_version"], ""),
    }


def _name_runtime(data: Json) -> Json:
    """Name the runtime and its definition. A label with the id was in it, and is now the runtime's to add."""
    old = _early_names()
    data["runtime"] = old["runtime"]
    data["definition"] = _without_generation_label(data.pop(old["definition"]))
    return data


def _without_generation_label(args: list[str]) -> list[str]:
    found: list[str] = []
    for arg in args:
        if arg.startswith(f"{LABEL_GENERATION}="):
            if found and found[-1] in {"--label", "-l"}:
                found.pop()
        elif not arg.startswith(f"--label={LABEL_GENERATION}="):
            found.append(arg)
    return found


@dataclass(frozen=True)
class Generation(Document):
    """One service, rendered: what the Spark needs to create, start, gate and restart it."""

    NAME = "generation"
    VERSION = 3
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _name_engine, 2: _name_runtime}

    service: str
    """Name of the container, and of the unit ``sparkfleet-<service>.service``."""
    image: str
    """``repository[:tag]@sha256:...``, present on the Spark before a rollout begins."""
    model: str
    revision: str
    served_name: str
    port: int
    definition: tuple[str, ...]
    """What its runtime creates an instance from, in the runtime's own form, without name and generation.
    docker: argv after ``docker create --name NAME``: options, image, command."""
    unit: str
    """Whole text of the systemd unit."""
    engine: str
    """Name of the engine: a folder of ``sparkfleet.engines``."""
    runtime: str
    """Name of the runtime: a folder of ``sparkfleet.runtimes``."""
    gate: Gate = field(default_factory=Gate)
    recipe: str = ""
    engine_version: str = ""
    """Engine version inside the image, as far as known."""
    floor_mib: int = 2048
    """MemAvailable (MiB) below which the watchdog kills the engine."""
    need_mib: int = 0
    """MemAvailable (MiB) required before the engine starts; 0: not checked."""
    stop_timeout_s: int = 60
    argv: tuple[str, ...] = ()
    """The engine's arguments: everything after ``vllm serve``, model first. For the plan and for people."""
    env: tuple[tuple[str, str], ...] = ()
    rank: Rank | None = None
    """Its position in a cluster; None: a single Spark serves."""

    @property
    def unit_name(self) -> str:
        """Return the name of the systemd unit."""
        return f"sparkfleet-{self.service}.service"

    @property
    def id(self) -> str:
        """Return 12 hex digits over everything whose change needs a new instance or unit."""
        spec = {one.name: getattr(self, one.name) for one in dataclasses.fields(Generation)}
        del spec["gate"], spec["rank"]
        spec["need_mib"] = 0  # as in the ids of earlier versions, which never set it
        old = _early_names()  # the ids of earlier versions stay
        for name in ("engine_version", "definition"):
            spec[old[name]] = spec.pop(name)
        for name in ("engine", "runtime"):
            if spec[name] == old[name]:
                del spec[name]
        if self.rank is not None:
            spec["rank"] = plain(self.rank)
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> Json:
        """Return the JSON object: the fields and, for people, the id."""
        return {"id": self.id, **super().to_json()}


@dataclass(frozen=True)
class GateResult:
    """Measurements of a gate that passed. A record may have none."""

    ready_s: float = 0.0
    """Seconds until the engine listed its models."""
    first_s: float = 0.0
    """Seconds of the first answer."""
    second_s: float = 0.0
    answer: str = ""
    tokens: float = 0.0
    """Increase of the engine's own counter meanwhile: tokens generated, for embeddings prompt tokens."""
    accepted: float = 0.0
    """Draft tokens that were accepted."""
    serving_at: float = 0.0
    """Unix time of the first correct response."""
    memory_log: tuple[str, ...] = ()
    """Log lines with the memory of weights and KV cache."""

    @property
    def is_measured(self) -> bool:
        """Return whether there are measurements."""
        return self != GateResult()


@dataclass(frozen=True)
class ContainerOf:
    """The container that runs a generation."""

    id: str = ""
    generation: str = ""
    """From its label: the container may be older than the rest of the record."""


def _renamed_rollout(data: Json) -> Json:
    """Migrate version 2: the rollout's id was ``swap``."""
    data["rollout"] = data.pop("swap", "")
    return data


@dataclass(frozen=True)
class PromotedGeneration(Generation):
    """A generation that passed its gate: ``generations/<n>-<id>.json``."""

    NAME = "promoted generation"
    VERSION = 4
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _name_engine, 2: _renamed_rollout, 3: _name_runtime}

    promoted_at: float = 0.0
    """Unix time."""
    operator: str = ""
    rollout: str = ""
    """Id of the rollout that promoted it."""
    gate_result: GateResult = field(default_factory=GateResult)
    container: ContainerOf | None = None

    @property
    def container_id(self) -> str:
        """Return the id of the container that was promoted, "" when the record names none."""
        return self.container.id if self.container else ""


@dataclass(frozen=True)
class CurrentGeneration(PromotedGeneration):
    """The generation that serves: ``current.json``."""

    NAME = "record of a service"

    replaced: tuple[PromotedGeneration, ...] = ()
    """The generations that its rollout replaced, the targets of a rollback."""


def convert(kind: type[G], generation: Generation, **changes: Any) -> G:
    """Return a generation as another kind of record: the fields that both have, then ``changes``."""
    names = {one.name for one in dataclasses.fields(generation)} & {
        one.name for one in dataclasses.fields(kind)
    }
    return kind(**({name: getattr(generation, name) for name in names} | changes))


def _cluster_key(data: Json) -> Json:
    """Migrate version 1 of a rollout request: ``token`` got its name, and ``expect`` was an object."""
    data["cluster_key"] = data.pop("token", "")
    data["expect"] = [[name, container] for name, container in sorted(dict(data.get("expect") or {}).items())]
    return data


@dataclass(frozen=True)
class RolloutRequest(Document):
    """The operator's request to the Spark: replace these services by that generation.

    ``candidate`` None with ``replaces``: stop and remove. ``expect``: container names and the container ids
    in the plan ("" = none). If another one is found, the rollout is refused as a stale plan.
    """

    NAME = "rollout request"
    VERSION = 3
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _cluster_key, 2: lambda data: data}

    id: str
    candidate: Generation | None
    replaces: tuple[str, ...]
    expect: tuple[tuple[str, str], ...] = ()
    operator: str = ""
    cluster_key: str = secret()
    """Shared by the hosts of one cluster rollout; "" for a single host."""
    context: RunContext = field(default_factory=RunContext)
    """For the history of the host."""


@dataclass(frozen=True)
class RollbackRequest(RolloutRequest):
    """The request to roll back to the generation before a service's. The host prints it, and accepts it."""

    NAME = "rollback request"

    then: tuple[RolloutRequest, ...] = ()
    """Requests for the further services that the rollout replaced."""


def _rank_key(data: Json) -> Json:
    data["cluster_key"] = data.pop("token", "")
    return data


@dataclass(frozen=True)
class RankKey(Document):
    """The key of a cluster's ranks: ``services/<service>/ranks/<rollout>.json``, mode 0600."""

    NAME = "key of a cluster"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _rank_key}

    cluster_key: str = secret()
