"""Starts the rollouts of all members of a cluster at once, with one id and key; stops the head first."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Rank, RolloutRequest
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.run.fleet_run import ClusterRollout, ClusterStop
from sparkfleet.plan.model import HostPlan

WAIT_S = 180.0
"""Seconds that a member waits for the others: each has checked its flags by then."""
POLL_S = 0.2


def coordinate(act: executor.RunContext, request: RolloutRequest, rank: Rank) -> RolloutRequest:
    """Return the request with what all members' rollouts share, as soon as every member is ready.

    Raise FailedError when one of them is not: nothing was touched on any of them then.
    """
    shared = act.run.cluster_rollouts.setdefault(
        rank.cluster, ClusterRollout(request.id, secrets.token_hex(16))
    )
    shared.ready.add(rank.hosts[rank.rank])
    _wait(act, rank, rank.hosts, shared.ready)
    return replace(request, id=shared.rollout_id, cluster_key=shared.cluster_key)


@contextmanager
def stop_order(act: executor.RunContext, rank: Rank) -> Iterator[None]:
    """Run the context's body when every member that stops in this run is ready; the head's first.

    The head answers requests, and its supervisor would restart the others' engines. Raise FailedError when
    one of them is not ready, or the head does not stop: nothing was touched here then.
    """
    plans = {plan.host: plan for plan in act.run.plans.values()}
    members = [name for name in rank.hosts if name in plans and _stops(plans[name], rank.cluster)]
    shared, own = act.run.cluster_stops.setdefault(rank.cluster, ClusterStop()), rank.hosts[rank.rank]
    shared.ready.add(own)
    _wait(act, rank, members, shared.ready)
    if not rank.is_head:
        _wait(act, rank, [name for name in members if name == rank.hosts[0]], shared.ended)
    yield
    shared.ended.add(own)


def _stops(plan: HostPlan, cluster: str) -> bool:
    return any(one.cluster == cluster and not one.blocked for one in plan.change_sets)


def _wait(act: executor.RunContext, rank: Rank, names: Sequence[str], ready: Collection[str]) -> None:
    """Return when all of these members are ready. Raise FailedError when one of them failed, or is late."""
    deadline = time.monotonic() + WAIT_S
    act.progress(f"{rank.cluster} waits", f"for {', '.join(names)}")
    while missing := [name for name in names if name not in ready]:
        failed = [name for name in missing if name in act.run.failures]
        if failed:
            cause = "; ".join(f"{name} is not ready: {_first(act, name)}" for name in failed)
            raise _refused(act, rank, cause, f"fix {failed[0]}, then run again")
        if time.monotonic() >= deadline:
            cause = f"{', '.join(missing)} not ready within {WAIT_S:.0f} s"
            raise _refused(act, rank, cause, "run again, without --serial")
        time.sleep(POLL_S)


def _first(act: executor.RunContext, name: str) -> str:
    """Return the first line of a member's failure; that member reports the whole."""
    return act.run.failures[name][0].message.splitlines()[0]


def _refused(act: executor.RunContext, rank: Rank, cause: str, remedy: str) -> executor.FailedError:
    where = f"{act.host.name}: cluster {rank.cluster}"
    return executor.FailedError(
        Diagnostic(
            where,
            f"{cause}; nothing was touched",
            "every member ready",
            remedy,
            code="cluster-member-not-ready",
        )
    )
