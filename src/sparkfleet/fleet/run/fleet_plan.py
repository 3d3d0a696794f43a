"""The plan of a whole fleet without a deploy, for ``sparkfleet plan``: connect, probe, disconnect."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from pyinfra.api.config import Config
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State, StateStage
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.inventory import make_inventory

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.fleet.connection import known_hosts, pyinfra_patches
from sparkfleet.fleet.run import fleet_run, host_errors, spark_plan, user_deploy
from sparkfleet.inventory import Pins, host_names, loading, unknown_hosts
from sparkfleet.plan.model import Plan


def fleet_plan(inventory: Path, limit: Sequence[str] = ()) -> Plan:
    """Return the plan of every Spark of an inventory, or of those that match ``limit`` (names or patterns).

    Raise SparkfleetError for a limit that matches nothing. Hosts that cannot be reached are unknown in it.
    """

    def plan(host: PyinfraHost) -> None:
        plan, run = spark_plan.fresh_plan(host), fleet_run.run_of(host.state)
        run.plans[host.name] = user_deploy.add_user_deploy(
            plan, host.state, host, spark_plan.declared(host).file, run.steps
        )

    state, _ = on_each(inventory, limit, plan)
    fleet_run.complete_plans(state)
    return fleet_run.whole_plan(state)


def on_each(
    inventory: Path, limit: Sequence[str], work: Callable[[PyinfraHost], None], pins: Pins = Pins.REQUIRED
) -> tuple[State, list[PyinfraHost]]:
    """Call ``work`` for every reachable Spark, concurrently; return the run and its hosts.

    Raise SparkfleetError for a limit that matches nothing. The run has the reason for each unreachable host.
    """
    state = begin(inventory, limit, pins)
    fleet_run.run_of(state).closing = False
    hosts = [host for host in state.inventory if state.is_host_in_limit(host)]
    greenlets = [state.pool.spawn(_visit, state, host, work) for host in hosts]
    for greenlet in greenlets:
        greenlet.get()
    return state, hosts


def _visit(state: State, host: PyinfraHost, work: Callable[[PyinfraHost], None]) -> None:
    """Connect, work, disconnect; record any error as the reason why this host has no answer.

    pyinfra keeps every connection to the end: 1,000 hosts would reach the limit of open files, and each
    connection costs memory and wakes up ten times a second.
    """
    try:
        host.connect()
        if host.connected:  # else the run has the reason
            state.activate_host(host)
            work(host)
    except Exception as error:  # noqa: BLE001  (a failure of one host must not stop another)
        fleet_run.run_of(state).unreachable[host.name] = host_errors.host_diagnostic(host.name, error)
    finally:
        if host.connected:
            hang_up(host)


def hang_up(host: PyinfraHost) -> None:
    """Close the connection."""
    host.disconnect()
    client = getattr(host.connector, "client", None)
    if client is not None:  # pyinfra's SSH connector leaves it open
        client.close()


def begin(
    inventory: Path,
    limit: Sequence[str],
    pins: Pins = Pins.REQUIRED,
    named: Mapping[str, Sequence[str]] | None = None,
) -> State:
    """Return a run over an inventory, or over the part that ``limit`` names, before its first connection.

    Raise SparkfleetError with all errors of the fleet's files, of a limit that matches nothing, and of
    unknown hosts in ``named`` (option -> host names).
    """
    known_hosts.use()
    pyinfra_patches.remember_connectors()
    pyinfra_patches.decode_any_bytes()
    pyinfra_patches.compare_macs_at_once()
    state = State(check_for_changes=False)
    state.cwd = str(Path.cwd())
    ctx_state.set(state)
    config = Config()
    ctx_config.set(config)
    hosts = read_inventory(inventory, {"--limit": limit, **(named or {})}, pins)
    chosen = [host for host in hosts if any(_matches(host, pattern) for pattern in limit)] if limit else None
    os.environ.setdefault("PYINFRA_PROGRESS", "off")
    state.init(hosts, config, initial_limit=chosen)
    state.set_stage(StateStage.Connect)
    return state


def read_inventory(inventory: Path, named: Mapping[str, Sequence[str]], pins: Pins) -> Inventory:
    """Return pyinfra's inventory; raise SparkfleetError with all errors of its files and of ``named``."""
    diagnostics: list[Diagnostic] = []
    with loading(pins) as loaded:
        try:
            hosts: Inventory = make_inventory(
                str(inventory), cwd=str(Path.cwd()), override_data={}, group_data_directories=[]
            )
        except SystemExit:
            if loaded.error is None:
                raise
            diagnostics += loaded.error.diagnostics
    # Without the inventory its host files have the names.
    names = host_names(inventory) if diagnostics else [name for host in hosts for name in _names(host)]
    diagnostics += unknown_hosts(named, names)
    if diagnostics:
        raise SparkfleetError(*diagnostics)
    return hosts


def _matches(host: PyinfraHost, pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in _names(host))


def _names(host: PyinfraHost) -> tuple[str, ...]:
    """Return a host's name in its host file, and in pyinfra (``@local`` differs)."""
    declared = host.data.get("sparkfleet") or {}
    return tuple(dict.fromkeys((str(declared.get("name") or host.name), host.name)))
