"""pyinfra operation: roll out the declared services, each change as one rollout on the host."""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
import uuid
from collections.abc import Generator
from dataclasses import replace
from functools import singledispatch

from pyinfra.api.command import FunctionCommand
from pyinfra.context import host, state

from sparkfleet import engines, runtimes
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import Generation, RolloutRequest
from sparkfleet.contract.rollout import (
    FAILED,
    INTERRUPTED,
    LOST,
    REFUSED,
    REMOVED,
    RESTORED,
    STALE,
    SUCCEEDED,
    UNREADABLE,
    RepairRequest,
    RolloutResult,
    RolloutStarted,
    first_start,
    serving_now,
)
from sparkfleet.engines.base import ArgChecker
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.printable import printable
from sparkfleet.fleet.connection.unreachable import address_of
from sparkfleet.fleet.operations import cluster
from sparkfleet.fleet.run import executor, run_context, spark_plan, turns
from sparkfleet.plan.model import Operation, Step
from sparkfleet.plan.operations import (
    RestartService,
    RolloutOperation,
    StartService,
    StopService,
    UpdateService,
)
from sparkfleet.units import duration

STOP_MORE_S = 150
"""Seconds that the stop of a unit may take beyond the engine's own time, and SIGKILL after it."""


@executor.own_operation
def roll_out() -> Generator[FunctionCommand, None, None]:
    """Roll out every service of the plan, or leave its previous generation serving."""
    yield from executor.commands(state, host, Step.SERVICE, _execute_all)


def _execute_all(act: executor.RunContext, operations: tuple[Operation, ...]) -> None:
    # The members of a cluster wait for each other: none of them may be busy with another service first.
    by_turn: dict[str, list[Operation]] = {}
    for one in operations:
        by_turn.setdefault(turns.name_of(one, act.host.name), []).append(one)
    diagnostics: list[Diagnostic] = []
    for name in sorted(by_turn, key=lambda name: name == act.host.name):
        try:
            with turns.turn(act, name):
                _execute_each(act, by_turn[name])
        except executor.FailedError as error:
            diagnostics += error.diagnostics
    if diagnostics:
        raise executor.FailedError(*diagnostics)


def _execute_each(act: executor.RunContext, operations: list[Operation]) -> None:
    diagnostics: list[Diagnostic] = []
    for one in operations:
        try:
            _execute(one, act)
        except executor.FailedError as error:
            diagnostics += error.diagnostics  # a failure of one service does not stop the next one
    if diagnostics:
        raise executor.FailedError(*diagnostics)


@singledispatch
def _execute(operation: Operation, act: executor.RunContext) -> None:
    """Execute an operation on a service. Raise FailedError when it fails."""
    del act
    raise TypeError(operation)


@_execute.register
def _(operation: UpdateService, act: executor.RunContext) -> None:
    name = operation.service
    act.progress(name, "update in place")
    output = remote.program(act.host, "repair", name, data=RepairRequest(operation.generation), timeout=120)
    if not output.ok:
        raise executor.FailedError(not_updated(f"{act.host.name}: {name}", output))
    act.run.done[act.host.name, name] = "updated in place"


@_execute.register
def _(operation: StopService, act: executor.RunContext) -> None:
    name = operation.service
    with cluster.stop_order(act, operation.rank) if operation.rank else contextlib.nullcontext():
        act.progress(f"{name} stop", f"its engine has {operation.stop_timeout_s} s to end")
        argv = ("stop", name, f"--operator={operator()}", f"--reason={operation.reason}")
        answer = remote.program(act.host, *argv, timeout=operation.stop_timeout_s + STOP_MORE_S)
        if not answer.ok:
            hint = f"on {act.host.name}: systemctl status sparkfleet-{name}"
            failed = "the service could not be stopped"
            raise executor.FailedError(remote.refusal(answer, f"{act.host.name}: {name}", failed, hint))
    act.run.done[act.host.name, name] = "stopped; sparkfleet start starts it again"


@_execute.register
def _(operation: RolloutOperation, act: executor.RunContext) -> None:
    name = operation.service
    as_it_served = isinstance(operation, StartService | RestartService)
    if operation.generation is not None and not as_it_served:
        _check_args(act, name, operation.generation)
    request = rollout_request(operation, spark_plan.declared(act.host).file)
    if request.candidate is not None and request.candidate.rank is not None:
        request = cluster.coordinate(act, request, request.candidate.rank)
    output = remote.program(act.host, "rollout", data=request, timeout=60)
    if not output.ok:
        raise executor.FailedError(not_started(act, f"{act.host.name}: {name}", output))
    result = act.watch(request.id, name, RolloutResult)
    if result.outcome not in SUCCEEDED:
        wrong = rollout_diagnostic(act.host.name, name, result)
        raise executor.FailedError(replace(wrong, message=wrong.message + _log_end(act, result)))
    act.run.done[act.host.name, name] = success_text(result)


def rollout_request(operation: RolloutOperation, host_file: str = "") -> RolloutRequest:
    """Return the request for a rollout of the plan, for a host that this file declares."""
    return RolloutRequest(
        id=new_id(operation.service),
        candidate=operation.generation,
        replaces=operation.replaces,
        expect=operation.expect,
        operator=operator(),
        context=run_context.context(host_file, operation.fields()),
    )


def operator() -> str:
    """Return who runs this, for records on the hosts."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def not_updated(where: str, output: remote.CommandOutput) -> Diagnostic:
    """Return why the host did not update a unit."""
    hint = f"on {where.replace(': ', ': systemctl status sparkfleet-')}"
    return remote.refusal(output, where, "the unit could not be updated", hint)


def new_id(subject: str) -> str:
    """Return the id of a new rollout."""
    return f"{re.sub('[^a-z0-9-]', '-', subject)[:36]}-{uuid.uuid4().hex[:8]}"


def not_started(act: executor.RunContext, where: str, output: remote.CommandOutput) -> Diagnostic:
    """Return why the host did not start a rollout."""
    started = remote.document(RolloutStarted, act.host, output.out) if output.out else RolloutStarted()
    if started.diagnostic:
        message = f"the rollout could not start: {started.diagnostic.message}"
        return replace(started.diagnostic, location=where, message=message)
    if started.text:
        return Diagnostic(
            where,
            f"another run is changing this host: {started.text}; nothing was touched",
            "no other run in progress",
            "run again: it follows that change to its end, then plans again",
            code="rollout-in-progress",
        )
    return Diagnostic(
        where,
        f"the rollout could not start: {_last(output.err or output.out)}",
        hint="run again: the new plan shows the current state",
        code="operation-failed",
    )


def _check_args(act: executor.RunContext, subject: str, generation: Generation) -> None:
    """Have the image's own parser check the engine's args before anything stops."""
    engine = engines.get(generation.engine)
    checker = engine.arg_checker
    if checker is None:
        return
    source = "the image" if generation.image else f"the runtime {generation.runtime}"
    act.progress(f"{subject} check", "checking the flags with the image's own parser")
    check = checker.read_check(_run_in_image(act, generation, checker, checker.check_args(generation.argv)))
    if check.ok is None:
        act.log(f"{subject}: the image's parser gave no answer ({check.error}); the gate decides")
        return
    if not check.ok:
        raise executor.FailedError(
            Diagnostic(
                f"{act.host.name}: {subject}",
                f"{engine.title} {check.version} in {source} refuses the flags: {check.error}; "
                "nothing was touched",
                f"flags that this {engine.title} knows",
                "fix the host file (sparkfleet check suggests the nearest flag)",
                code="flags-rejected-by-image",
            )
        )
    artifact = runtimes.get(generation.runtime).program_artifact(generation)
    if not checker.is_kept(artifact):
        act.progress(
            f"{subject} check", f"caching the flags of the image's {engine.title} for the next check"
        )
        with contextlib.suppress(ValueError):  # no description is no failure: the bundled one is used
            checker.keep(artifact, _run_in_image(act, generation, checker, checker.describe()))


def _run_in_image(
    act: executor.RunContext, generation: Generation, checker: ArgChecker, args: tuple[str, ...]
) -> str:
    """Return the checking program's output in the image, on the Spark, without network."""
    artifact = runtimes.get(generation.runtime).program_artifact(generation)
    command = (*remote.PROGRAM, "run-program", generation.runtime, artifact, checker.interpreter, *args)
    ran = remote.run(act.host, command, stdin=checker.program(), timeout=checker.timeout_s)
    return ran.out or ran.err


def success_text(result: RolloutResult) -> str:
    """Return the result of a successful rollout as text."""
    if result.outcome == REMOVED:
        return "removed"
    text = "serves, gate passed"
    if result.downtime_s:
        text += f", {duration(result.downtime_s)} without service"
    text += first_start(result)
    answer = result.gate_result.answer if result.gate_result else ""
    return text + (f", answer: {answer.strip()[:60]!r}" if answer else "")


LOG_LINES = 12
"""Lines of the engine's log that are shown where its failure is not explained."""
UNEXPLAINED = frozenset(
    {"unknown", "engine-ended", "engine-ended-silently", "crashed", "aborted", "rollout-failed"}
)
"""Codes of failures whose cause no pattern names."""


def _log_end(act: executor.RunContext, result: RolloutResult) -> str:
    """Return the end of the engine's log for a failure without a known cause; "" for others."""
    if not result.evidence or (result.diagnostic and result.diagnostic.code not in UNEXPLAINED):
        return ""
    path = f"{result.evidence}/engine.log"
    try:
        read = remote.run_once(act.host, ("tail", "-n", str(LOG_LINES), path))
    except (remote.ConnectionLostError, SparkfleetError):
        return ""
    ssh = address_of(act.host.name, act.host.data.dict()).ssh()
    return log_end_text(read.out if read.ok else "", f"{ssh} sudo cat {path}")


def log_end_text(lines: str, command: str) -> str:
    """Return the last lines of a log, and the command that shows all of it; "" without lines."""
    if not lines.strip():
        return ""
    shown = "".join(f"\n      | {line}" for line in printable(lines).rstrip().splitlines())
    return f"\n    end of the engine's log (the whole log: {command}):{shown}"


_REMEDIES = {
    LOST: "run again to follow the rollout to its end",
    INTERRUPTED: "run again",
    STALE: "run again: the new plan shows what differs now",
}


def rollout_diagnostic(where: str, subject: str, result: RolloutResult) -> Diagnostic:
    """Return why a rollout did not end with the new generation, and which generation serves now."""
    outcome_text = {
        RESTORED: _rolled_back(result),
        REFUSED: "nothing was touched",
        STALE: "nothing was touched: the host changed since the plan was shown",
        INTERRUPTED: "nothing was touched",
        FAILED: serving_now(result, with_problems=False),
        LOST: "the result is unknown: the rollout continues on the host",
        UNREADABLE: "the rollout was abandoned; the current state is unknown",
    }.get(result.outcome, f"outcome {result.outcome}")
    wrong = result.diagnostic or Diagnostic(subject, "the change failed", code="rollout-failed")
    message = f"{wrong.message}{first_start(result)}; {outcome_text}"
    if result.line:
        message += f"\n    engine log: {result.line}"
    if result.evidence:
        message += f"\n    evidence on the Spark: {result.evidence}"
    remedy = wrong.hint or _REMEDIES.get(result.outcome, "fix the host file, then run again")
    problems = tuple(replace(one, location=f"{where}: {one.location}") for one in result.restore_problems)
    location = f"{where}: {wrong.location or subject}"
    return replace(
        wrong, location=location, message=message, hint=remedy, related=(*wrong.related, *problems)
    )


def _rolled_back(result: RolloutResult) -> str:
    if result.serving and not result.restore_problems:
        return "rolled back: the previous generation serves again and passed its gate"
    return f"rolled back: {serving_now(result, with_problems=False)}".removesuffix(": ")


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
