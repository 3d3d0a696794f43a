"""A generation: one service as it shall run, complete enough to be started again without the operator.

The operator writes it, the Spark keeps it (``/var/lib/sparkfleet/services/<service>/``), the plan compares.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

STATE_DIR = "/var/lib/sparkfleet"
"""Everything that sparkfleet remembers on a Spark. 0755 root; secrets are elsewhere."""

LABEL_SERVICE = "io.sparkfleet.service"
LABEL_GENERATION = "io.sparkfleet.generation"
"""Labels that prove a container is ours. Without them it is never touched."""


@dataclass(frozen=True)
class Gate:
    """The proof that a service serves, asked on the Spark itself over loopback."""

    prompt: str = "What is 12*17? Answer with the number only."
    expect: str = "204"
    """Text that the answer must contain (thinking counts as answer); empty: any non-empty answer."""
    timeout_s: int = 1800
    """Seconds from the engine's start until the gate must have passed."""
    max_tokens: int = 512
    second_timeout_s: int = 60
    """Seconds for the second, warm completion."""
    speculative: bool = False
    """True: accepted draft tokens must be above 0 after the completions."""


@dataclass(frozen=True)
class Rank:
    """A Spark's place among those that run one engine together."""

    cluster: str
    rank: int
    """0 is the head: it answers, and it decides."""
    hosts: tuple[str, ...]
    """Names of the Sparks by rank."""
    addresses: tuple[str, ...]
    """Their addresses on the fabric by rank."""
    executor: str
    """Either mp or ray."""
    make: str
    """Digest of all that must be the same on every rank: image, words, members."""
    clear: tuple[str, ...] = ()
    """Directories that are removed before each start: caches that must be the same on all ranks."""

    @property
    def is_head(self) -> bool:
        """Tell whether this Spark is the head."""
        return self.rank == 0

    @property
    def address(self) -> str:
        """Return this Spark's address on the fabric."""
        return self.addresses[self.rank]

    def name(self, rank: int) -> str:
        """Return how a rank is called in messages."""
        return f"{self.hosts[rank]} ({self.addresses[rank]})"


@dataclass(frozen=True)
class Generation:
    """One service, rendered: what the Spark needs to create, start, gate and restart it."""

    service: str
    """Name of the container, and of the unit ``sparkfleet-<service>.service``."""
    image: str
    """``repository[:tag]@sha256:...``, present on the Spark before a swap begins."""
    model: str
    revision: str
    served_name: str
    port: int
    create: tuple[str, ...]
    """argv after ``docker create --name NAME``: options, image, command. Has the two labels."""
    unit: str
    """Whole text of the systemd unit."""
    gate: Gate = field(default_factory=Gate)
    recipe: str = ""
    vllm: str = ""
    """vLLM version inside the image, as far as known."""
    floor_mib: int = 2048
    """MemAvailable (MiB) below which the guard kills the engine."""
    need_mib: int = 0
    """MemAvailable (MiB) that must be there before the engine starts; 0: not checked."""
    stop_timeout_s: int = 60
    argv: tuple[str, ...] = ()
    """The engine's words: everything after ``vllm serve``, model first. For the plan and for people."""
    env: tuple[tuple[str, str], ...] = ()
    rank: Rank | None = None
    """Its place in a cluster; None: the Spark serves alone."""

    @property
    def unit_name(self) -> str:
        """Return the name of the systemd unit."""
        return f"sparkfleet-{self.service}.service"

    @property
    def id(self) -> str:
        """Return 12 hex digits over all that makes a new container or unit necessary (not the gate)."""
        spec = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del spec["gate"], spec["rank"]
        if self.rank is not None:
            spec["rank"] = dataclasses.asdict(self.rank)
        spec["create"] = without_generation_label(self.create)
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; ``from_json`` is its inverse."""
        return {"schema": 1, "id": self.id, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Generation:
        """Return the generation that ``to_json`` wrote; unknown keys of later versions are left out."""
        known = {f.name for f in dataclasses.fields(Generation)}
        values = {key: value for key, value in data.items() if key in known}
        gate_known = {f.name for f in dataclasses.fields(Gate)}
        values["gate"] = Gate(**{k: v for k, v in values.get("gate", {}).items() if k in gate_known})
        for key in ("create", "argv"):
            values[key] = tuple(values.get(key, ()))
        values["env"] = tuple((k, v) for k, v in values.get("env", ()))
        values["rank"] = _rank(values["rank"]) if values.get("rank") else None
        return Generation(**values)


def _rank(data: dict[str, Any]) -> Rank:
    known = {f.name for f in dataclasses.fields(Rank)}
    values = {key: value for key, value in data.items() if key in known}
    return Rank(**{**values, **{key: tuple(values[key]) for key in ("hosts", "addresses", "clear")}})


def without_generation_label(create: tuple[str, ...]) -> list[str]:
    """Return the words of ``docker create`` without ``--label io.sparkfleet.generation=...``.

    The label holds the id, so that it cannot be part of what the id is made from.
    """
    words: list[str] = []
    for word in create:
        if word.startswith(f"{LABEL_GENERATION}="):
            if words and words[-1] in {"--label", "-l"}:
                words.pop()
        elif not word.startswith(f"--label={LABEL_GENERATION}="):
            words.append(word)
    return words


@dataclass(frozen=True)
class SwapRequest:
    """What the operator asks of the Spark: replace these services by that generation.

    ``candidate`` None with ``replaces``: stop and remove. ``expect`` maps each container name that matters to
    the container id that the plan saw ("" = there was none); anything else found is refused as a stale plan.
    """

    id: str
    candidate: Generation | None
    replaces: tuple[str, ...]
    expect: tuple[tuple[str, str], ...] = ()
    operator: str = ""
    token: str = field(default="", repr=False)
    """Shared by the swaps of one change of a cluster; "" = a Spark by itself."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema": 1,
            "id": self.id,
            "candidate": self.candidate.to_json() if self.candidate else None,
            "replaces": list(self.replaces),
            "expect": dict(self.expect),
            "operator": self.operator,
            **({"token": self.token} if self.token else {}),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> SwapRequest:
        """Return the request that ``to_json`` wrote."""
        candidate = data.get("candidate")
        return SwapRequest(
            id=data["id"],
            candidate=Generation.from_json(candidate) if candidate else None,
            replaces=tuple(data.get("replaces", ())),
            expect=tuple(sorted(data.get("expect", {}).items())),
            operator=data.get("operator", ""),
            token=data.get("token", ""),
        )
