"""Rollouts of a run with ``--serial``: on one Spark, or in one cluster, after the other, up to a failure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.run import executor

SERIAL = "sparkfleet_serial"
"""pyinfra data (``--data sparkfleet_serial=yes``): engines are replaced on one Spark after the other."""
POLL_S = 0.2


@contextmanager
def turn(act: executor.RunContext, name: str) -> Iterator[None]:
    """Wait for the turn of a host or a cluster, and keep it meanwhile; at once in a run without ``--serial``.

    Raise FailedError, before anything is changed, if a rollout on another host or cluster has failed.
    """
    if not act.host.data.get(SERIAL):
        yield
        return
    turns = act.run.turns
    while turns.current not in {"", name}:
        act.progress("waits", f"for {turns.current}")
        time.sleep(POLL_S)
    if failed := [one for one in turns.failed if one != name]:
        raise executor.FailedError(
            Diagnostic(
                act.host.name,
                f"{', '.join(failed)} failed before; nothing was changed here",
                "with --serial, no failure before",
                f"resolve what failed on {failed[0]}, then run again",
                code="run-stopped",
            )
        )
    turns.current, turns.users = name, turns.users + 1
    try:
        yield
    except Exception:
        turns.failed.append(name)
        raise
    finally:
        turns.users -= 1
        if not turns.users:
            turns.current = ""
