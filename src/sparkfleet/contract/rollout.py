"""Messages and files of a rollout beside its request: events, state before it, result; and small changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from sparkfleet.contract.codec import Document, Json, Migration
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import CurrentGeneration, GateResult, Generation

STEP, PHASE, WAITING, NOTE, RESULT = "step", "phase", "waiting", "note", "result"
"""Kinds of events."""
PROMOTED, RESTORED, FAILED, REMOVED, INTERRUPTED = "promoted", "restored", "failed", "removed", "interrupted"
REFUSED, STALE, UNREADABLE, LOST = "refused", "stale", "unreadable", "lost"
"""Outcomes of a rollout. ``lost``: the operator does not know it."""
SUCCEEDED = frozenset({PROMOTED, REMOVED})
RUNTIME_MIB = 512
"""Free disk space (MiB) that a rollout needs for an instance's layer and log; the plan checks it, too."""


def diagnostic_of(data: Json, location: str, code: str, message: str = "cause", hint: str = "remedy") -> Json:
    """Move the two texts of a document of an older version, which had no code, to its ``diagnostic``."""
    texts = data.pop(message, ""), data.pop(hint, "")
    if any(texts):
        data["diagnostic"] = {"location": location, "message": texts[0], "hint": texts[1], "code": code}
    return data


def _nested_result(data: Json) -> Json:
    """Migrate version 1: the result's fields were those of its event."""
    if data.get("kind") == RESULT:
        data["result"] = {key: value for key, value in data.items() if key not in {"n", "at", "kind"}}
    return data


@dataclass(frozen=True)
class Event(Document):
    """A line of ``events.jsonl``, and of what ``follow`` prints: progress of a rollout or another job."""

    NAME = "event"
    VERSION = 3
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {
        1: _nested_result,
        2: lambda data: diagnostic_of(data, "", "rollout-failed"),  # the rollout knows the service
    }

    n: int
    """0, 1, 2 ... within the job."""
    kind: str
    at: float = 0.0
    """Unix time."""
    text: str = ""
    step: str = ""
    """Of a ``step``: check, create, stop, start, gate, retry, promote, restore ..."""
    phase: str = ""
    seconds: float | None = None
    """Since the engine's start."""
    have: int = 0
    total: int = 0
    """Bytes."""
    fetched: int = 0
    """Bytes that were transferred: the rest was there already."""
    container: str = ""
    """Id of the candidate's container."""
    record: CurrentGeneration | None = None
    """Of the promotion: the new record of the service."""
    diagnostic: Diagnostic | None = None
    """Of a rollback: why the candidate failed. Of a retry: why the first start failed."""
    line: str = ""
    """The last lines of the engine's log."""
    exit_code: int | None = None
    stalled: bool = False
    """The job's program does not run."""
    result: Mapping[str, Any] | None = None
    """Of a ``result``, the last event: the JSON object of the job's ``result.json``. Whoever follows the job
    reads it as RolloutResult, StageResult or FabricResult."""

    def to_json(self) -> Json:
        """Return the JSON object without fields that have their defaults: a journal has many events."""
        defaults = {one.name: one.default for one in fields(self)}
        whole = super().to_json()
        return {key: value for key, value in whole.items() if key not in defaults or value != defaults[key]}


@dataclass(frozen=True)
class JobResult(Document):
    """What the results of all kinds of jobs have in common."""

    outcome: str
    diagnostic: Diagnostic | None = None
    """Why the job did not do what was requested; its location is "" for the job itself."""


@dataclass(frozen=True)
class ServiceBefore:
    """State of an affected service before a rollout."""

    container: str = ""
    """Id; "" = none."""
    running: bool = False
    active: bool = False
    """systemd keeps it running."""
    enabled: bool = False
    unit: str | None = None
    """Text of the unit; None = no unit."""
    drop_ins: Mapping[str, str] = field(default_factory=dict)
    """Text of the unit's drop-ins by their paths."""
    current: CurrentGeneration | None = None


def _by_service(data: Json) -> Json:
    """Migrate version 1: the file had the services alone."""
    return {"services": data}


@dataclass(frozen=True)
class StateBefore(Document):
    """State of the affected services before a rollout: ``before.json``, for the restore."""

    NAME = "state before a rollout"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _by_service}

    services: Mapping[str, ServiceBefore]


def _with_code(data: Json) -> Json:
    """Migrate version 1: cause and remedy had no code."""
    code = {STALE: "host-changed-since-plan", LOST: "job-lost"}.get(data.get("outcome", ""), "rollout-failed")
    return diagnostic_of(data, data.get("service", ""), code)


RESTORE_FAILED, RESTORE_UNPROVEN = "restore-failed", "restore-unproven"
"""Codes: a service does not serve again after a rollback; it was restarted, and no gate proves it."""


def _problems_with_code(data: Json) -> Json:
    """Migrate version 3: each problem of a restore was a text that began with the service."""
    data["restore_problems"] = [_problem(text, data) for text in data.get("restore_problems", ())]
    return data


def _problem(text: str, result: Json) -> Json:
    found = re.fullmatch(r"([^\s:]+)(?:: | was )(.*)", text, re.DOTALL)
    service, message = found.groups() if found else (result.get("service", ""), text)
    if message.startswith("restarted, but nothing proves"):
        return {"location": service, "message": message, "code": RESTORE_UNPROVEN, "severity": "warning"}
    return {"location": service, "message": message, "code": RESTORE_FAILED}


@dataclass(frozen=True)
class RolloutResult(JobResult):
    """End of a rollout: ``result.json``. The diagnostic says why the candidate does not serve."""

    NAME = "result of a rollout"
    VERSION = 4
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {
        1: _with_code,
        2: lambda data: data,
        3: _problems_with_code,
    }

    id: str = ""
    service: str = ""
    """The candidate's; without one those that were removed."""
    generation: str = ""
    """Id of the candidate."""
    replaced: tuple[str, ...] = ()
    """Services that the rollout stopped or removed."""
    began_at: float | None = None
    ended_at: float = 0.0
    """Unix times."""
    text: str = ""
    """The result in one sentence."""
    line: str = ""
    """The last lines of the engine's log."""
    exit_code: int | None = None
    evidence: str = ""
    """Directory with log, memory and requests of a candidate that failed."""
    serving: tuple[str, ...] = ()
    """Services that were restored and passed their gates."""
    restore_problems: tuple[Diagnostic, ...] = ()
    """Why a service, the location, does not serve again, or (a warning) is not proven to answer."""
    answering: tuple[str, ...] | None = None
    """Of a failure: the names that the service's port listed at its end; () = no answer, None = unknown."""
    downtime_s: float | None = None
    """Seconds without a serving engine; None: nothing serves, or nothing was stopped."""
    gate_result: GateResult | None = None
    first_failure: Diagnostic | None = None
    """Why the first start failed, where the same candidate was started twice."""

    @property
    def cause(self) -> str:
        """Return what the diagnostic found, and where it is not the service itself; "" without one."""
        if self.diagnostic is None:
            return ""
        own = self.diagnostic.location == self.service
        return self.diagnostic.message if own else f"{self.diagnostic.location}: {self.diagnostic.message}"


def first_start(result: RolloutResult) -> str:
    """Return that the candidate was started twice, and why; "" if it was not."""
    return f"; started twice, at first {result.first_failure.message}" if result.first_failure else ""


def serving_now(result: RolloutResult, *, with_problems: bool = True) -> str:
    """Return which services serve after a rollback, as far as the rollout has proven it.

    ``with_problems``: followed by why others do not.
    """
    parts = []
    if result.serving:
        again = "serves again and passed" if result.outcome == RESTORED else "passed"
        parts.append(f"{', '.join(result.serving)} {again} its gate")
    elif result.outcome == FAILED:
        parts.append(
            "no service is proven to answer"
            if result.answering is None
            else f"its port answers as {', '.join(result.answering)}, not proven by a gate"
            if result.answering
            else "nothing answers on its port"
        )
    if with_problems:
        parts += [f"{one.location}: {one.message}" for one in result.restore_problems]
    return "; ".join(parts) or ("" if result.restore_problems else "nothing was restored")


@dataclass(frozen=True)
class RolloutStarted(Document):
    """Response to a rollout request: the rollout that runs now, or why it did not start."""

    NAME = "response to a rollout request"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {
        1: lambda data: diagnostic_of(data, "rollout", "operation-failed", "error")
    }

    rollout: str = ""
    """Its id; that of another rollout, when that one is in progress."""
    text: str = ""
    diagnostic: Diagnostic | None = None


@dataclass(frozen=True)
class JobStarted(Document):
    """Response to the request of another job than a rollout: the job that runs now."""

    NAME = "response to a request of a job"

    job: str
    """Its id."""


@dataclass(frozen=True)
class Recovered(Document):
    """Report of the recovery at boot on one rollout or job that a reboot interrupted."""

    NAME = "report of the recovery"

    rollout: str = ""
    job: str = ""
    """The id: one of both is set."""
    text: str = ""


def _bare_generation(data: Json) -> Json:
    """Migrate version 1: the request was the generation, alone or with its key."""
    return {"generation": data.get("generation", data)}


@dataclass(frozen=True)
class RepairRequest(Document):
    """Make unit and record of a service those of a generation, without another container."""

    NAME = "repair request"
    VERSION = 2
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {1: _bare_generation}

    generation: Generation


@dataclass(frozen=True)
class CommandRefused(Document):
    """Response of a command that was refused, beside the same text on stderr."""

    NAME = "refusal of a command"

    diagnostic: Diagnostic


@dataclass(frozen=True)
class ServiceChanged(Document):
    """Response to the repair, stop or removal of a service."""

    NAME = "response to a change of a service"

    service: str
    text: str = ""
    generation: str = ""
    changed: bool = False
    """The unit was not as declared."""
