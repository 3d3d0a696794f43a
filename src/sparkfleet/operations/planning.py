"""The plan of a whole fleet without a deploy: connect, look at every Spark, disconnect. For ``sparkfleet
plan``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import gevent
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State, StateStage
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.inventory import make_inventory

from sparkfleet.errors import Problem, SparkfleetError
from sparkfleet.operations import fleet_run
from sparkfleet.plan.model import HostPlan, Plan


def fleet_plan(inventory: Path, limit: Sequence[str] = ()) -> Plan:
    """Return the plan of every Spark of an inventory, or of those that match ``limit`` (names or patterns).

    Raises SparkfleetError for a limit that matches nothing. Hosts that cannot be reached are unknown in it.
    """
    state = _state(inventory, limit)
    run = fleet_run.of(state)
    with contextlib.suppress(PyinfraError):  # no host could be reached; each one's reason is in the run
        connect_all(state)
    run.closing = False
    for host, plan in _plans(state, [host for host in state.inventory if host in state.activated_hosts]):
        run.plans[host.name] = plan
    whole = fleet_run.whole_plan(state)
    disconnect_all(state)
    return whole


def _plans(state: State, hosts: Sequence[PyinfraHost]) -> list[tuple[PyinfraHost, HostPlan]]:
    greenlets = [(host, state.pool.spawn(fleet_run.fresh_plan, host)) for host in hosts]
    gevent.joinall([greenlet for _, greenlet in greenlets])
    return [(host, greenlet.get()) for host, greenlet in greenlets]


def _state(inventory: Path, limit: Sequence[str]) -> State:
    state = State(check_for_changes=False)
    state.cwd = str(Path.cwd())
    ctx_state.set(state)
    config = Config()
    ctx_config.set(config)
    hosts = make_inventory(str(inventory), cwd=state.cwd, override_data={}, group_data_directories=[])
    chosen = _chosen(hosts, limit)
    os.environ.setdefault("PYINFRA_PROGRESS", "off")
    state.init(hosts, config, initial_limit=chosen)
    state.set_stage(StateStage.Connect)
    return state


def _chosen(hosts: Inventory, limit: Sequence[str]) -> list[PyinfraHost] | None:
    if not limit:
        return None
    found = {pattern: [host for host in hosts if _matches(host, pattern)] for pattern in limit}
    empty = [pattern for pattern, matches in found.items() if not matches]
    if empty:
        names = ", ".join(host.name for host in hosts)
        raise SparkfleetError(
            *(Problem(f"--limit {pattern}", "no host of that name", f"one of: {names}") for pattern in empty)
        )
    return [host for host in hosts if any(host in matches for matches in found.values())]


def _matches(host: PyinfraHost, pattern: str) -> bool:
    """Tell whether a pattern means a host: by pyinfra's name, or by its file's (``@local`` has another)."""
    declared = host.data.get("sparkfleet") or {}
    return fnmatch(host.name, pattern) or fnmatch(str(declared.get("name", "")), pattern)
