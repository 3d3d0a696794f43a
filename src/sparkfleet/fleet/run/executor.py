"""The frame of every pyinfra operation: take the operations of one step from the plan that was shown, refuse
a stale plan, execute, and turn every error into a failed host with its reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from pyinfra.api.command import FunctionCommand
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.api.state import State
from pyinfra.context import ctx_state

from sparkfleet import interrupts
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.rollout import Event, JobResult
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.remote import ConnectionLostError
from sparkfleet.fleet.run import fleet_run, host_errors, spark_plan
from sparkfleet.plan.model import HostPlan, Operation, Step

R = TypeVar("R", bound=JobResult)


class FailedError(SparkfleetError):
    """An operation failed on one host; with location, cause and next command."""


@dataclass
class RunContext:
    """One host in a run, as passed to an executor."""

    state: State
    host: PyinfraHost

    @property
    def run(self) -> fleet_run.FleetRun:
        """Return the run."""
        return fleet_run.run_of(self.state)

    def progress(self, phase: str, text: str = "", have: int = 0, total: int = 0) -> None:
        """Show the phase of this host, and how far it is."""
        interrupts.record(self.host.name, phase)  # before it is shown: Ctrl-C may follow at once
        self.run.board.progress(self.host.name, phase, text, have, total)

    def log(self, text: str) -> None:
        """Print a permanent line."""
        self.run.board.log(self.host.name, text)

    def watch(self, job: str, subject: str, kind: type[R]) -> R:
        """Follow a job on the host to its end, showing each event; return its result."""

        def show(event: Event) -> None:
            phase = f"{subject} {event.phase or event.step}".rstrip()
            self.progress(phase, event.text, event.have, event.total)

        return remote.follow(self.host, job, kind, self.log, show)


Prepare = Callable[[], Generator[FunctionCommand, None, None]]

Execute = Callable[[RunContext, tuple[Operation, ...]], None]
"""Executes the operations of one step on one host; raises FailedError with what failed."""


def own_operation(function: Prepare) -> Callable[..., OperationMeta]:
    """Make a function an operation of pyinfra whose results sparkfleet reports itself."""
    decorated: Callable[..., OperationMeta] = operation()(function)

    @functools.wraps(function)
    def call(**arguments: object) -> OperationMeta:
        meta = decorated(**arguments)
        fleet_run.run_of(ctx_state.get()).own_operations.add(meta._hash)  # noqa: SLF001
        return meta

    return call


def commands(
    state: State, host: PyinfraHost, step: Step, execute: Execute
) -> Generator[FunctionCommand, None, None]:
    """Yield one command when the plan that was shown has operations in this step; else nothing."""
    plan = fleet_run.run_of(state).plans.get(host.name, HostPlan(host.name))
    operations = plan.operations(step) if plan.unknown is None else ()
    if not operations:
        fleet_run.run_of(state).done_steps.add((host.name, step))
        host.noop(f"{step}: as declared")
        return
    yield FunctionCommand(_execute_safely, (step, execute, operations), {})


def _execute_safely(
    state: State, host: PyinfraHost, step: Step, execute: Execute, operations: tuple[Operation, ...]
) -> bool:
    acting = RunContext(state, host)
    acting.run.begin(step)
    try:
        with acting.run.board.host(host.name):
            refuse_stale(acting)
            with interrupts.changing(host.name):
                execute(acting, operations)
    except SparkfleetError as error:
        diagnostics = error.diagnostics
    except ConnectionLostError as error:
        diagnostics = (
            Diagnostic(
                host.name,
                f"connection lost: {error}",
                "a connection",
                "the operation continues on the host; run again to follow it",
                code="connection-lost",
            ),
        )
    except Exception as error:  # noqa: BLE001  (a failure of one host must not stop another)
        diagnostics = (host_errors.host_diagnostic(host.name, error),)
    else:
        acting.run.done_steps.add((host.name, step))
        acting.run.changed.add(host.name)
        return True
    acting.run.failures[host.name] = diagnostics
    acting.log("failed: see the end of the run")
    return False


def refuse_stale(acting: RunContext) -> None:
    """Probe again before the first change; raise FailedError if the plan is not the one that was shown."""
    checked = getattr(acting.host, "sparkfleet_checked", False)
    if checked:
        return
    setattr(acting.host, "sparkfleet_checked", True)  # noqa: B010  (pyinfra's Host does not declare it)
    shown = acting.run.probed[acting.host.name]
    now = spark_plan.fresh_plan(acting.host, acting.run.steps)
    if now.unknown and not shown.unknown:
        raise FailedError(now.unknown)
    if now.effects() == shown.effects():
        return
    known = fleet_run.reasons_of(shown)
    if new := [one for one in fleet_run.reasons_of(now) if one not in known]:
        raise FailedError(*new)  # the user deploy did not create a mount, for example
    raise FailedError(fleet_run.stale_diagnostic(acting.host.name))
