"""Prune a fleet: probe every host, then remove the listed items. For ``sparkfleet prune``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paramiko import SSHException
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.state import State

from sparkfleet import interrupts
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.rollout import NOTE, Event
from sparkfleet.contract.stage import STAGED, PruneItem, PruneRequest, StageRequest, StageResult
from sparkfleet.desired_state import Host
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.probe import observe
from sparkfleet.fleet.operations import host
from sparkfleet.fleet.run import fleet_plan, fleet_run, host_errors, spark_plan
from sparkfleet.fleet.staging import stage_job
from sparkfleet.inventory import Pins
from sparkfleet.plan import host_changes
from sparkfleet.plan.prune import HostPrune, Item, has_no_images, prune_request
from sparkfleet.probe.observation import Observed, ObservedPath

Report = Callable[[str, str], None]
"""Called with a host's name and a line about it."""


@dataclass
class Fleet:
    """Every host of an inventory: its declaration and its state. Connections stay open until ``close``."""

    state: State
    seen: dict[str, tuple[Host, Observed | Diagnostic]] = field(default_factory=dict)
    connections: dict[str, PyinfraHost] = field(default_factory=dict)

    def close(self) -> None:
        """Close all connections."""
        for connection in self.connections.values():
            fleet_plan.hang_up(connection)


def probe_all(inventory: Path, named: Mapping[str, Sequence[str]]) -> Fleet:
    """Probe every host, its disks included. One that cannot be read has a diagnostic instead."""
    state = fleet_plan.begin(inventory, (), Pins.OPTIONAL, named)
    fleet_run.run_of(state).closing = False
    fleet = Fleet(state)
    hosts = list(state.inventory)
    greenlets = [state.pool.spawn(_probe, fleet, one) for one in hosts]
    for greenlet in greenlets:
        greenlet.get()
    order = [spark_plan.declared(one).name for one in hosts]
    fleet.seen = {name: fleet.seen[name] for name in order}
    return fleet


def _probe(fleet: Fleet, one: PyinfraHost) -> None:
    spec = spark_plan.declared(one)
    try:
        seen = _seen(fleet, spec, one)
    except Exception as error:  # noqa: BLE001  (a failure of one host must not stop another)
        seen = host_errors.host_diagnostic(spec.name, error)
    fleet.seen[spec.name] = (spec, seen)


def _seen(fleet: Fleet, spec: Host, one: PyinfraHost) -> Observed | Diagnostic:
    one.connect()
    if not one.connected:
        why = fleet_run.run_of(fleet.state).unreachable.get(one.name)
        return why or Diagnostic(spec.name, "unreachable", code="ssh-unreachable")
    fleet.state.activate_host(one)
    fleet.connections[spec.name] = one
    seen = observe(one, prune_request(spec))
    return observe(one, prune_request(spec, images=False)) if has_no_images(spec, seen) else seen


def has_other_programs(observed: Observed) -> bool:
    """Return whether a host has other programs than this version; they are updated before a removal."""
    seen = observed.paths.get(host_changes.PROGRAM_PATH, ObservedPath("absent"))
    return seen.sha256 != host_changes.managed_files()[0].sha256


def remove(fleet: Fleet, plans: tuple[HostPrune, ...], report: Report) -> dict[str, StageResult | Diagnostic]:
    """Remove the items on all hosts in parallel; return each host's result or diagnostic."""
    results: dict[str, StageResult | Diagnostic] = {}

    def work(plan: HostPrune) -> None:
        try:
            with interrupts.changing(plan.host):
                results[plan.host] = _remove(fleet, plan, report)
        except SparkfleetError as error:
            results[plan.host] = error.diagnostics[0]
        except (remote.ConnectionLostError, SSHException, OSError) as error:
            results[plan.host] = Diagnostic(
                plan.host,
                f"connection lost: {error}; the removal continues on the host",
                hint="prune again: the list shows what is left",
                code="connection-lost",
            )

    greenlets = [fleet.state.pool.spawn(work, plan) for plan in plans if plan.items]
    for greenlet in greenlets:
        greenlet.get()
    return results


def _remove(fleet: Fleet, plan: HostPrune, report: Report) -> StageResult | Diagnostic:
    connection = fleet.connections[plan.host]
    spec, observed = fleet.seen[plan.host]
    assert isinstance(observed, Observed)  # noqa: S101  (a plan with items was made of it)
    if has_other_programs(observed):
        host.run_script(connection, host.script(host_changes.managed_files()[:1]))
    job = f"stage-prune-{uuid.uuid4().hex[:8]}"
    data = StageRequest(job, prune=request(spec, observed, plan.items))
    remote.start_job(connection, "stage", data, "the removal could not start")

    def note(text: str) -> None:
        report(plan.host, text)

    def show(event: Event) -> None:
        if event.kind == NOTE:
            note(event.text)

    result = remote.follow(connection, job, StageResult, note, show)
    if result.outcome != STAGED:
        return stage_job.located(plan.host, result, "the removal failed", "prune again")
    return result


def request(spec: Host, observed: Observed, items: tuple[Item, ...]) -> PruneRequest:
    """Return the items to remove, and the state that the host must still have."""
    stored = observed.stored
    assert stored is not None  # noqa: S101  (it was asked for)
    return PruneRequest(
        observed.user.expand(spec.paths.models),
        observed.user.expand(spec.paths.cache),
        {name: service.record_sha256 for name, service in stored.services.items() if service.record_sha256},
        {container.id: container.image_id for container in stored.containers},
        tuple(PruneItem(item.kind.value, item.name, item.key, tuple(item.refs)) for item in items),
    )
