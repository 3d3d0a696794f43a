"""pyinfra operation: the fabric links to the other members of the cluster, with automatic revert."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial

from pyinfra.api.command import FunctionCommand
from pyinfra.context import host, state

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.fabric import FAILED, FabricResult
from sparkfleet.contract.rollout import Event
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan.fabric import ring
from sparkfleet.plan.model import HostPlan, HostState, Operation, Scope, Step
from sparkfleet.plan.operations import ConfigureFabric

CONFIRM_WITHIN_S = 30
"""Seconds in which a new connection must work: less than the Spark waits for it."""
FOLLOW_S = 2
"""Seconds between two checks of the other members."""


@executor.own_operation
def configure() -> Generator[FunctionCommand, None, None]:
    """Configure the fabric links; revert everything if a peer does not answer."""
    yield from executor.commands(state, host, Step.FABRIC, _link)


def _link(act: executor.RunContext, operations: tuple[Operation, ...]) -> None:
    (configure,) = (one for one in operations if isinstance(one, ConfigureFabric))
    _require_other_end(act)
    job = f"fabric-{uuid.uuid4().hex[:12]}"
    request = replace(configure.request, id=job)
    act.progress("fabric", "starting")
    remote.start_job(act.host, "fabric", request, "the change did not start", FAILED)

    def show(event: Event) -> None:
        if event.step == "watch":
            _reconnect(act, job)
        act.progress("fabric", event.text or event.step)

    report: Callable[[str], None] = partial(act.progress, "fabric")
    other_end = _OtherEnd(act, job)
    result = remote.follow(
        act.host, job, FabricResult, report, show, wait_s=FOLLOW_S, between=other_end.check
    )
    if result.outcome in {"linked", "removed"}:
        return
    member = spark_plan.declared(act.host).member
    wired = f" ({ring.wiring(member.hosts)})" if member and member.fabric.ring else ""
    wrong = result.diagnostic or Diagnostic("fabric", "no reason was reported", code=FAILED)
    raise executor.FailedError(
        replace(
            wrong,
            location=f"{act.host.name}: {wrong.location or 'fabric'}",
            expected="every Spark of the cluster answers on every link, and management stays as it is",
            hint=(wrong.hint or "run again") + wired,
        )
    )


@dataclass
class _OtherEnd:
    """The other members in this run: when one fails, this host does not wait for its response."""

    act: executor.RunContext
    job: str
    reported: bool = False

    def check(self) -> None:
        """Make the host revert its links when another member has failed."""
        declared = spark_plan.declared(self.act.host)
        if self.reported or declared.member is None:
            return
        failed = [name for name in declared.member.hosts if name in self.act.run.failures]
        if failed:
            self.reported = True
            cause = f"{', '.join(failed)}, at the other end, could not be configured"
            remote.program(self.act.host, "fabric-give-up", self.job, cause)


def _require_other_end(act: executor.RunContext) -> None:
    """Raise when another member of this run cannot be changed: a link has two ends."""
    declared = spark_plan.declared(act.host)
    if declared.member is None:
        return
    run = act.run
    for name in declared.member.hosts:
        plan = run.plans.get(name)
        if name in run.unreachable or (plan and not _is_ready(plan)):
            raise executor.FailedError(
                Diagnostic(
                    f"{act.host.name}: fabric",
                    f"{name}, at the other end, cannot be changed now; nothing was changed here",
                    "every Spark of the cluster ready",
                    f"fix {name} first (see its own errors); then run again",
                    code="cluster-member-not-ready",
                )
            )


def _is_ready(plan: HostPlan) -> bool:
    """Return whether a host takes part in the run, and its links can be changed."""
    blocked = any(one.blocked for one in plan.change_sets if one.scope is not Scope.SERVICE)
    return not blocked and (plan.proceeds or plan.state is HostState.UNCHANGED)


def _reconnect(act: executor.RunContext, job: str) -> None:
    """Confirm the change over a new connection. Without one the host reverts automatically."""
    client = getattr(act.host.connector, "client", None)
    try:
        remote.reconnect(act.host, CONFIRM_WITHIN_S)
        remote.run_once(act.host, (*remote.PROGRAM, "fabric-confirm", job), timeout=CONFIRM_WITHIN_S)
    except (remote.ConnectionLostError, SparkfleetError) as error:
        act.progress("fabric", f"no new connection ({error}); the host reverts its links by itself")
        return
    if client is not None and client is not getattr(act.host.connector, "client", None):
        client.close()
