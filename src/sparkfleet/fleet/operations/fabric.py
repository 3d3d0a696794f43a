"""Operation: the links to the other Sparks of the cluster, with automatic return."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial

from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan.fabric import ring
from sparkfleet.plan.model import HostState, Operation, Step
from sparkfleet.plan.operations import ConfigureFabric

CONFIRM_WITHIN_S = 30
"""Seconds in which a new connection must work: less than the Spark waits for it."""
FOLLOW_S = 2
"""Seconds between two looks at how the other members fare."""


@operation()
def linked() -> Generator[FunctionCommand, None, None]:
    """Give the links of the fabric their addresses; put everything back where something does not answer."""
    yield from executor.commands(state, host, Step.FABRIC, _link)


def _link(act: executor.Acting, operations: tuple[Operation, ...]) -> None:
    (configure,) = (one for one in operations if isinstance(one, ConfigureFabric))
    _refuse_alone(act)
    job = f"fabric-{uuid.uuid4().hex[:12]}"
    request = replace(configure.request, id=job)
    act.tell("fabric", "begins")
    answer = remote.program(act.host, "fabric", data=request.to_json())
    if not answer.ok:
        said = (answer.err or answer.out).strip()
        raise executor.FailedError(Diagnostic(act.host.name, f"the links: {said}", hint="run again"))
    result = {}
    other_end = _OtherEnd(act, job)
    tell: Callable[[str], None] = partial(act.tell, "fabric")
    for event in remote.follow(act.host, job, tell, FOLLOW_S, other_end.look):
        if event.get("step") == "watch":
            _come_in_anew(act, job)
        act.tell("fabric", str(event.get("text") or event.get("step") or ""))
        result = event
    if result.get("outcome") in {"linked", "removed"}:
        return
    member = spark_plan.declared(act.host).member
    wired = f" ({ring.wiring(member.hosts)})" if member and member.fabric.ring else ""
    raise executor.FailedError(
        Diagnostic(
            f"{act.host.name}: fabric",
            str(result.get("cause") or "the change of the links ended without a word"),
            "every Spark of the cluster answers on every link, and management stays as it is",
            str(result.get("remedy") or "run again") + wired,
        )
    )


@dataclass
class _OtherEnd:
    """The other members in this run: when one of them fails, nobody needs to wait for its answer."""

    act: executor.Acting
    job: str
    told: bool = False

    def look(self) -> None:
        """Let the Spark put its links back when another member has failed."""
        declared = spark_plan.declared(self.act.host)
        if self.told or declared.member is None:
            return
        failed = [name for name in declared.member.hosts if name in self.act.run.failures]
        if failed:
            self.told = True
            cause = f"{', '.join(failed)}, at the other end, could not be linked"
            remote.program(self.act.host, "fabric-give-up", self.job, cause)


def _refuse_alone(act: executor.Acting) -> None:
    """Raise when another member of this run cannot be changed: a link has two ends."""
    declared = spark_plan.declared(act.host)
    if declared.member is None:
        return
    run = act.run
    for name in declared.member.hosts:
        plan = run.plans.get(name)
        if name in run.unreachable or (plan and plan.state in {HostState.UNKNOWN, HostState.BLOCKED}):
            raise executor.FailedError(
                Diagnostic(
                    f"{act.host.name}: fabric",
                    f"{name}, at the other end, cannot be changed now; nothing was changed here",
                    "every Spark of the cluster ready",
                    f"mend {name} first (see what is said of it); then run again",
                )
            )


def _come_in_anew(act: executor.Acting, job: str) -> None:
    """Tell the Spark over a new connection that it is there. Where none works it goes back by itself."""
    client = getattr(act.host.connector, "client", None)
    try:
        remote.reconnect(act.host, CONFIRM_WITHIN_S)
        remote.run_once(act.host, (*remote.PROGRAM, "fabric-confirm", job), timeout=CONFIRM_WITHIN_S)
    except (remote.ConnectionLostError, SparkfleetError) as error:
        act.tell("fabric", f"no new connection ({error}); the Spark puts its links back by itself")
        return
    if client is not None and client is not getattr(act.host.connector, "client", None):
        client.close()
