"""Rollouts of a run with ``--serial``: on one Spark, or in one cluster, after the other, up to a failure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.run import executor
from sparkfleet.plan.model import Operation, Step
from sparkfleet.plan.operations import RolloutOperation, StopService, UpdateService

SERIAL = "sparkfleet_serial"
"""pyinfra data (``--data sparkfleet_serial=yes``): engines are replaced on one Spark after the other."""
POLL_S = 0.2


def name_of(operation: Operation, host: str) -> str:
    """Return whose turn an operation needs: the host's, or that of the cluster whose rank it changes."""
    rank = None
    if isinstance(operation, StopService):
        rank = operation.rank
    elif isinstance(operation, RolloutOperation | UpdateService) and operation.generation is not None:
        rank = operation.generation.rank
    return f"cluster {rank.cluster}" if rank else host


@contextmanager
def turn(act: executor.RunContext, name: str) -> Iterator[None]:
    """Wait for the turn of a host or a cluster, in the order of the inventory; at once without ``--serial``.

    Raise FailedError, before anything is changed, if a rollout on another host or cluster has failed.
    """
    if not act.host.data.get(SERIAL):
        yield
        return
    turns = act.run.turns
    try:
        while other := next(_before(act, name), ""):
            act.progress("waits", f"for {other}")
            time.sleep(POLL_S)
        if failed := [one for one in turns.failed if one != name]:
            raise executor.FailedError(_stopped(act.host.name, failed))
        try:
            yield
        except Exception:
            turns.failed.append(name)
            raise
    finally:
        turns.ended.add((act.host.name, name))


def _before(act: executor.RunContext, name: str) -> Iterator[str]:
    """Yield the hosts and clusters whose turn comes before and has not ended on all of their hosts."""
    order: dict[str, list[str]] = {}
    for host in act.state.inventory:
        plan = act.run.plans.get(host.name)
        operations = plan.operations(Step.SERVICE) if plan else ()
        names = {name_of(one, host.name) for one in operations}
        for one in sorted(names, key=lambda one: one == host.name):  # a cluster first, as in a run
            order.setdefault(one, []).append(host.name)
    for one, hosts in order.items():
        if one == name:
            return
        waiting = (host for host in hosts if (host, one) not in act.run.turns.ended)
        if any(host not in act.run.failures for host in waiting):
            yield one


def _stopped(host: str, failed: list[str]) -> Diagnostic:
    return Diagnostic(
        host,
        f"{', '.join(failed)} failed before; nothing was changed here",
        "with --serial, no failure before",
        f"resolve what failed on {failed[0]}, then run again",
        code="run-stopped",
    )
