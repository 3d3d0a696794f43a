"""The plan as data: operations on each host, grouped by what they change. No I/O, no rendering.

An operation (``plan/operations.py``) has everything that its execution needs. Its fields describe it in the
report and in JSON; nothing reads them to decide what to do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, get_origin, get_type_hints

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.artifacts import Artifact
from sparkfleet.probe.machine import ObservedMachine


class Action(StrEnum):
    """What happens to a field."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


class Step(StrEnum):
    """The part of a run that an operation belongs to, in the order of a run."""

    USER_DEPLOY = "user-deploy"
    """The fleet's own deploy file; pyinfra executes its operations."""
    DOCKER = "docker"
    HOST = "host"
    FABRIC = "fabric"
    IMAGE = "image"
    WEIGHTS = "weights"
    SERVICE = "service"
    VERIFY = "verify"
    """Hash model files: only in a plan that asks for it."""


STEP_TITLES = {
    Step.USER_DEPLOY: "the fleet's own deploy file",
    Step.DOCKER: "Docker",
    Step.HOST: "programs and host state",
    Step.FABRIC: "fabric links",
    Step.IMAGE: "images",
    Step.WEIGHTS: "weights",
    Step.SERVICE: "services",
    Step.VERIFY: "hashes of the model files",
}

EVERY_STEP = tuple(step for step in Step if step is not Step.VERIFY)
"""The steps of ``deploys/serve.py``."""


class Command(StrEnum):
    """A command on services as they are on the hosts, instead of a run of steps."""

    STOP = "stop"
    START = "start"
    RESTART = "restart"


COMMAND_STEPS = (Step.HOST, Step.SERVICE)
"""The steps of a command: its programs, and the services."""


class ChangeKind(StrEnum):
    """What happens to a subject as a whole."""

    PREPARE = "prepare"
    STAGE = "stage"
    """Files are fetched; the running engine is not touched."""
    CREATE = "create"
    RECREATE = "recreate"
    UPDATE = "update in place"
    REMOVE = "remove"
    STOP = "stop"
    START = "start"
    RESTART = "restart"
    VERIFY = "verify"
    UNKNOWN = "unknown"
    """Something that it depends on cannot be read."""


_RESTARTS = frozenset(
    {
        ChangeKind.CREATE,
        ChangeKind.RECREATE,
        ChangeKind.REMOVE,
        ChangeKind.STOP,
        ChangeKind.START,
        ChangeKind.RESTART,
    }
)


@dataclass(frozen=True)
class FieldChange:
    """One field that differs, as text: the value on the host, and the declared one."""

    action: Action
    name: str
    key: str = ""
    """Which one of several: a flag, a variable, a path."""
    old: str = ""
    new: str = ""
    note: str = ""


@dataclass(frozen=True)
class Note:
    """Information that is not a change: a memory estimate, a warning."""

    step: Step
    name: str
    key: str = ""
    text: str = ""
    remark: str = ""
    of_this_host: bool = False
    """Whether it has figures of this host, which do not tell its plan from that of another host."""
    diagnostic: Diagnostic | None = field(default=None, compare=False)
    """Of a warning. Not compared: its location differs between hosts with the same plan."""


def warning(step: Step, name: str, diagnostic: Diagnostic) -> Note:
    """Return the note of a warning."""
    return Note(step, name, text=diagnostic.message, remark=diagnostic.hint, diagnostic=diagnostic)


@dataclass(frozen=True)
class Operation(ABC):
    """One step of a run on a host. The executors in ``fleet/operations`` are chosen by its type.

    ``--json`` shows the attributes that are annotated with a description. Never annotate those with secrets.
    """

    type: ClassVar[str]
    """Name in ``--json``: the class's, in snake case."""
    step: ClassVar[Step]
    kind: ClassVar[ChangeKind] = ChangeKind.PREPARE

    def __init_subclass__(cls) -> None:
        """Set the type."""
        cls.type = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @abstractmethod
    def fields(self) -> tuple[FieldChange, ...]:
        """Return what changes, for the report and ``--json``."""

    @classmethod
    @cache
    def parameters(cls) -> Mapping[str, tuple[Any, str]]:
        """Return type and description of each attribute that ``--json`` shows."""
        properties = {
            name: value.fget for name, value in inspect.getmembers(cls) if isinstance(value, property)
        }
        hints = {name: get_type_hints(one, include_extras=True)["return"] for name, one in properties.items()}
        hints |= get_type_hints(cls, include_extras=True)
        return {
            name: (hint.__origin__, hint.__metadata__[0])
            for name, hint in hints.items()
            if get_origin(hint) is Annotated
        }

    @property
    def size(self) -> int:
        """Return the bytes that it transfers."""
        return 0

    @property
    def downtime(self) -> int | None:
        """Return the seconds without service, as measured at the last start; None: none, or unknown."""
        return None

    def effect(self) -> Operation:
        """Return what it changes on this host, without notes: equal means the same change."""
        return self

    def essence(self) -> object:
        """Return what is equal on hosts where it does the same, regardless of names and free space."""
        return (self.type, self.fields())


class Scope(StrEnum):
    """What a change set is about."""

    HOST = "host"
    FABRIC = "fabric"
    SERVICE = "service"


@dataclass(frozen=True)
class Dependency:
    """What a change of a service needs from that of another one on the same host."""

    subject: str
    reason: str
    """What the other one does for it: ``it frees port 8000``."""


@dataclass(frozen=True)
class ChangeSet:
    """All operations on one subject: the host itself, its fabric links, or one service."""

    subject: str
    operations: tuple[Operation, ...] = ()
    title: str = ""
    notes: tuple[Note, ...] = ()
    blocked: Diagnostic | None = None
    """Why none of the operations must be executed."""
    cluster: str = ""
    """The cluster whose members execute this together; "": this host alone."""
    scope: Scope = Scope.SERVICE
    depends_on: tuple[Dependency, ...] = ()
    """Changes without which it must not be executed."""

    @property
    def kind(self) -> ChangeKind:
        """Return what happens to the subject: what its last operation by step does."""
        last = max(self.operations, key=lambda one: _ORDER[one.step], default=None)
        return last.kind if last else ChangeKind.UNKNOWN if self.blocked else ChangeKind.PREPARE

    @property
    def downtime(self) -> int | None:
        """Return the seconds without service; None: not known."""
        return max((one.downtime for one in self.operations if one.downtime), default=None)

    @property
    def size(self) -> int:
        """Return the bytes that all operations transfer."""
        return sum(one.size for one in self.operations)

    @property
    def restarts_engine(self) -> bool:
        """Return whether an engine is stopped or started."""
        return self.kind in _RESTARTS

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the fields of all operations."""
        return tuple(field for operation in self.operations for field in operation.fields())

    def of_step(self, step: Step) -> tuple[Operation, ...]:
        """Return the operations of one step."""
        return tuple(one for one in self.operations if one.step is step)

    def within(self, steps: Sequence[Step]) -> ChangeSet | None:
        """Return the part that belongs to these steps; None when there is none."""
        operations = tuple(one for one in self.operations if one.step in steps)
        notes = tuple(one for one in self.notes if one.step in steps)
        if not operations and (self.blocked is None or not notes):
            return None
        return replace(self, operations=operations, notes=notes)


_ORDER = {step: number for number, step in enumerate(Step)}


class HostState(StrEnum):
    """The state of a host in the plan."""

    UNCHANGED = "unchanged"
    CHANGE = "change"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"


_AFTER_DOCKER = frozenset({Step.IMAGE, Step.WEIGHTS, Step.SERVICE, Step.VERIFY})
"""What cannot be planned for a host without Docker."""


@dataclass(frozen=True)
class ServiceStop:
    """A service that was stopped on purpose: a run leaves it as it is."""

    service: str
    operator: str
    """As ``user@machine``."""
    at: float
    """Unix time."""
    reason: str = ""
    cluster: str = ""
    """The cluster that serves it; "": the host alone."""
    differs: tuple[str, ...] = ()
    """Names of the fields that differ from the declaration: the first run after its start changes them."""


@dataclass(frozen=True)
class HostPlan:
    """The plan of one host."""

    host: str
    change_sets: tuple[ChangeSet, ...] = ()
    unknown: Diagnostic | None = None
    rollout_in_progress: str = ""
    """Id of a rollout that has not ended: a run follows it to its end before it plans."""
    artifacts: tuple[Artifact, ...] = ()
    """Images and models that its services need, present or not."""
    warnings: tuple[Diagnostic, ...] = ()
    """What is unknown about the host and blocks nothing."""
    recreate: ChangeSet | None = None
    """What is done to this host's rank when another member of its cluster changes: all ranks restart."""
    stops: tuple[ServiceStop, ...] = ()
    """Services that were stopped on purpose, and are not changed."""
    machine: ObservedMachine | None = field(default=None, compare=False, repr=False)
    """What is compared with other hosts; None: the host is unknown."""

    @property
    def state(self) -> HostState:
        """Return the state; unknown wins over blocked, blocked over change."""
        if self.unknown:
            return HostState.UNKNOWN
        if any(one.blocked for one in self.change_sets):
            return HostState.BLOCKED
        return HostState.CHANGE if self.change_sets else HostState.UNCHANGED

    @property
    def proceeds(self) -> bool:
        """Return whether a run changes something here: what is blocked does not keep the rest from it.

        The owner's own deploy alone, beside blocked changes, is no reason to begin.
        """
        ready = [one for one in self.change_sets if not one.blocked]
        if len(ready) < len(self.change_sets):
            ready = [one for one in ready if not one.of_step(Step.USER_DEPLOY)]
        return self.unknown is None and bool(ready)

    def within(self, steps: tuple[Step, ...]) -> HostPlan:
        """Return the part of the plan that a run of these steps executes."""
        if set(steps) >= set(EVERY_STEP):
            return self
        if _AFTER_DOCKER & set(steps) and Step.DOCKER not in steps and self.operations(Step.DOCKER):
            message = "Docker or the NVIDIA container toolkit is declared, and not installed yet"
            remedy = "pyinfra INVENTORY deploys/prepare.py; then run again"
            return replace(
                self,
                change_sets=(),
                unknown=Diagnostic(self.host, message, "both", remedy, code="docker-not-prepared"),
            )
        parts = (one.within(steps) for one in self.change_sets)
        return replace(self, change_sets=tuple(part for part in parts if part is not None))

    def effects(self) -> object:
        """Return what must be equal for a plan to be current: what the operations change, without notes.

        Without the owner's own deploy, which pyinfra compares again by itself.
        """
        change_sets = [
            (one.subject, one.blocked is not None, tuple(operation.effect() for operation in one.operations))
            for one in self.change_sets
            if not one.of_step(Step.USER_DEPLOY)
        ]
        return (self.unknown is not None, change_sets)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the effects: equal means that the same is changed."""
        return hashlib.sha256(repr(_compared(self.effects())).encode()).hexdigest()

    def ready(self, step: Step) -> tuple[ChangeSet, ...]:
        """Return the change sets that have operations in a step and are not blocked."""
        return tuple(one for one in self.change_sets if not one.blocked and one.of_step(step))

    def operations(self, step: Step) -> tuple[Operation, ...]:
        """Return the operations of a step that are not blocked."""
        return tuple(operation for one in self.ready(step) for operation in one.of_step(step))


def _compared(value: object) -> object:
    """Return a value with only the compared fields of its dataclasses, without large contents."""
    if dataclasses.is_dataclass(value):
        names = [one.name for one in dataclasses.fields(value) if one.compare and one.repr]
        return (type(value).__name__, [_compared(getattr(value, name)) for name in names])
    return [_compared(one) for one in value] if isinstance(value, tuple | list) else value


@dataclass(frozen=True)
class Plan:
    """The plan of a fleet."""

    hosts: tuple[HostPlan, ...]
    knowledge: str = ""
    """Version of the knowledge that was used; "" for the bundled one. Another operator may have another."""
    warnings: tuple[Diagnostic, ...] = ()
    """What several hosts have in common or not, and should not or should (``plan/parity.py``)."""

    def count(self, state: HostState) -> int:
        """Return how many hosts are in a state."""
        return sum(host.state is state for host in self.hosts)

    @property
    def exit_code(self) -> int:
        """Return 0 without changes, 2 for changes, 1 when a host is unknown or blocked."""
        if self.count(HostState.UNKNOWN) or self.count(HostState.BLOCKED):
            return 1
        return 2 if self.count(HostState.CHANGE) else 0
