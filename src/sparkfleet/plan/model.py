"""The plan as data: what differs, field by field, and what a run would do about it. No I/O, no rendering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sparkfleet.config.resolved import Service
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.fabric import FabricRequest
from sparkfleet.contract.generation import Generation


class Sign(StrEnum):
    """What happens to a field."""

    ADD = "+"
    CHANGE = "~"
    REMOVE = "-"
    NOTE = "="
    """A statement that is no change (memory estimate, size on disk)."""


class Step(StrEnum):
    """Which operation carries a change out, in this order."""

    USER_DEPLOY = "user-deploy"
    """The fleet's own deploy file; pyinfra's operations in it do it themselves."""
    DOCKER = "docker"
    HOST = "host"
    FABRIC = "fabric"
    IMAGE = "image"
    WEIGHTS = "weights"
    SERVICE = "service"
    VERIFY = "verify"
    """Model files are read and hashed: in a plan only when it is asked for."""


EVERY_STEP = tuple(step for step in Step if step is not Step.VERIFY)
"""What `deploys/serve.py` does."""


class Verb(StrEnum):
    """What happens to the subject as a whole."""

    PREPARE = "prepare"
    STAGE = "stage"
    """Only files are fetched; what serves is not touched."""
    CREATE = "create"
    RECREATE = "recreate"
    UPDATE = "update in place"
    REMOVE = "remove"
    VERIFY = "verify"


@dataclass(frozen=True)
class Change:
    """One field that differs: old is what the Spark has, new what is declared."""

    step: Step
    sign: Sign
    field: str
    key: str = ""
    """Which one of the field: flag name, variable name, path."""
    old: str = ""
    new: str = ""
    note: str = ""
    item: str = ""
    """What of the Spark's stock it brings, by key; "" when it brings nothing."""


@dataclass(frozen=True)
class Stock:
    """One thing that is fetched as a whole (an image, a model at its commit), and what a Spark has of it."""

    step: Step
    key: str
    """``repository@digest`` of an image, ``repository@commit`` of a model; of a derived image its name."""
    whole: bool
    have: int = 0
    """Bytes."""
    missing: int = 0
    """Bytes."""
    free: int = 0
    """Bytes free on the disk where it is kept."""
    rate: int = 0
    """Bytes a second that the Spark fetched such things with the last time; 0: not known."""
    copy_rate: int = 0
    """The same from another Spark."""
    derived: bool = False
    """Whether it is an image that is made on a Spark: no registry has it."""
    identity: str = ""
    """Id of a derived image that is here."""


@dataclass(frozen=True)
class Source:
    """Where a Spark gets a thing from."""

    host: str = ""
    """Name of another Spark; "": the registry, or the hub."""
    near: bool = False
    """Whether the two are linked by the fabric."""
    size: int = 0
    """Bytes that come from there, where that is another number than what is missing; else 0."""
    mirror: bool = False
    """Whether it comes from the offline mirror on the operator's machine."""
    not_seed: str = ""
    """Why it is not the declared seed that fetches this for the others, when that is so."""


@dataclass(frozen=True)
class Entry:
    """All that differs of one subject: the host itself, or one service."""

    subject: str
    verb: Verb
    changes: tuple[Change, ...]
    title: str = ""
    replaces: tuple[str, ...] = ()
    """Services that stop for this one: itself when it runs, and undeclared ones."""
    expect: tuple[tuple[str, str], ...] = ()
    """Container name -> id that this entry was computed from ("" = none)."""
    service: Service | None = None
    generation: Generation | None = None
    fabric: FabricRequest | None = None
    """The links to other Sparks as they shall be."""
    downtime_s: int | None = None
    """Seconds without service as measured at the last start; None: not known."""
    blocked: Diagnostic | None = None
    """Why this entry must not be carried out."""
    cluster: str = ""
    """The cluster whose members carry this out together; "" = this Spark by itself."""

    def steps(self, step: Step) -> tuple[Change, ...]:
        """Return the real changes of one step (statements left out)."""
        return tuple(c for c in self.changes if c.step is step and c.sign is not Sign.NOTE)

    def within(self, steps: tuple[Step, ...]) -> Entry | None:
        """Return the part of the entry that belongs to these steps; None when none of it does."""
        kept = tuple(change for change in self.changes if change.step in steps)
        if not kept or (self.blocked is None and all(change.sign is Sign.NOTE for change in kept)):
            return None
        if Step.SERVICE in steps or self.verb is Verb.PREPARE:
            return replace(self, changes=kept)
        return replace(self, verb=Verb.STAGE, changes=kept, replaces=(), downtime_s=None)

    @property
    def needs_swap(self) -> bool:
        """Tell whether an engine is stopped or started for this entry."""
        return self.verb in {Verb.CREATE, Verb.RECREATE, Verb.REMOVE}


class HostState(StrEnum):
    """What the plan says of a host as a whole."""

    UNCHANGED = "unchanged"
    CHANGE = "change"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"


_AFTER_DOCKER = frozenset({Step.IMAGE, Step.WEIGHTS, Step.SERVICE, Step.VERIFY})
"""What cannot be known of a Spark without Docker."""


@dataclass(frozen=True)
class HostPlan:
    """The plan of one Spark."""

    host: str
    entries: tuple[Entry, ...] = ()
    unknown: Diagnostic | None = None
    going_on: str = ""
    """Id of a swap that has not ended yet: a real run follows it before it plans."""
    stock: tuple[Stock, ...] = ()
    """What its services need of images and models, whether it is there or not."""
    anew: Entry | None = None
    """What is done to this Spark's rank when another member of its cluster changes: all ranks start anew."""

    @property
    def state(self) -> HostState:
        """Return the state; unknown wins over blocked, blocked over change."""
        if self.unknown:
            return HostState.UNKNOWN
        if any(entry.blocked for entry in self.entries):
            return HostState.BLOCKED
        return HostState.CHANGE if self.entries else HostState.UNCHANGED

    def within(self, steps: tuple[Step, ...]) -> HostPlan:
        """Return the part of the plan that a run of these steps alone carries out."""
        if set(steps) >= set(EVERY_STEP):
            return self
        if _AFTER_DOCKER & set(steps) and Step.DOCKER not in steps and self.entries_with(Step.DOCKER):
            found = "Docker or the NVIDIA container toolkit is declared, and not there yet"
            remedy = "pyinfra INVENTORY deploys/prepare.py; then run again"
            return replace(self, entries=(), unknown=Diagnostic(self.host, found, "both", remedy))
        entries = (entry.within(steps) for entry in self.entries)
        return replace(self, entries=tuple(entry for entry in entries if entry is not None))

    def entries_with(self, step: Step) -> tuple[Entry, ...]:
        """Return the entries that have real changes in a step and are not blocked."""
        return tuple(entry for entry in self.entries if not entry.blocked and entry.steps(step))


@dataclass(frozen=True)
class Plan:
    """The plan of a fleet."""

    hosts: tuple[HostPlan, ...]

    def count(self, state: HostState) -> int:
        """Return how many hosts are in a state."""
        return sum(host.state is state for host in self.hosts)

    @property
    def exit_code(self) -> int:
        """Return 0 for nothing to do, 2 for changes, 1 when a host is unknown or blocked."""
        if self.count(HostState.UNKNOWN) or self.count(HostState.BLOCKED):
            return 1
        return 2 if self.count(HostState.CHANGE) else 0
