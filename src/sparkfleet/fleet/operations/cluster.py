"""Starts the rollouts of all members of a cluster at the same time, with one id and key."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Rank, RolloutRequest
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.run.fleet_run import ClusterRollout

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
    deadline = time.monotonic() + WAIT_S
    act.progress(f"{rank.cluster} waits", f"for {', '.join(rank.hosts)}")
    while missing := [name for name in rank.hosts if name not in shared.ready]:
        failed = [name for name in missing if name in act.run.failures]
        if failed:
            cause = "; ".join(f"{name} is not ready: {_first(act, name)}" for name in failed)
            raise _refused(act, rank, cause, f"fix {failed[0]}, then run again")
        if time.monotonic() >= deadline:
            cause = f"{', '.join(missing)} not ready within {WAIT_S:.0f} s"
            raise _refused(act, rank, cause, "run again, without --serial")
        time.sleep(POLL_S)
    return replace(request, id=shared.rollout_id, cluster_key=shared.cluster_key)


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
