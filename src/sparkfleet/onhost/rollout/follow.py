"""The events of a rollout as they come, and the status of the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import UNREADABLE, WAITING, Event, RolloutResult
from sparkfleet.contract.status import (
    ContainerStatus,
    GenerationStatus,
    HostStatus,
    MemoryStatus,
    ServiceStatus,
)
from sparkfleet.onhost.machine import files, runtime_wait
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import snapshot, transient_unit
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.state.journal import follow_events
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError


def follow(system: System, rollout_id: str, since: int, wait_s: float) -> list[Event]:
    """Return the events from ``since`` on; wait up to ``wait_s`` seconds for new ones. A result comes last.

    Raise ContractError for files that cannot be read.
    """
    directory = store.rollout_directory(system.paths.state, rollout_id)
    if not store.was_requested(system.paths.state, rollout_id):
        raise FileNotFoundError(f"there is no rollout {rollout_id} on this Spark")
    fallback = store.rollout_fallback(system.paths.run, rollout_id)

    def stopped() -> list[Event]:
        if transient_unit.runs(system, rollout_id):
            return []
        text = "its program does not run; the next rollout, or `recover`, finishes it"
        return [Event(since, WAITING, text=text, stalled=True)]

    return follow_events(system, directory, RolloutResult, since, wait_s, stopped=stopped, fallback=fallback)


def status(system: System) -> HostStatus:
    """Return services, containers, units, rollouts and memory, for people."""
    state = system.paths.state
    memory = system.memory()
    results = (_result(path / "result.json") for path in store.rollouts(state))
    return HostStatus(
        {name: _service(system, name) for name in store.services(state)},
        (store.unfinished(state) or ("",))[0],
        tuple(one for one in results if one),
        MemoryStatus(memory.total, memory.available),
    )


def _result(path: Path) -> RolloutResult | None:
    try:
        return files.read_document(RolloutResult, path)
    except ContractError as error:
        return RolloutResult(UNREADABLE, diagnostic=error.diagnostic)


def _service(system: System, service: str) -> ServiceStatus:
    unit = units.unit_name(service)
    status = ServiceStatus(
        systemctl(system, "is-active", unit).out.strip(),
        systemctl(system, "is-enabled", unit).out.strip(),
        container=_container(system, service),
        generations=tuple(
            GenerationStatus(one.id, one.promoted_at, one.model)
            for one in store.generations(system.paths.state, service)
        ),
    )
    try:
        record = store.current(system.paths.state, service)
    except ContractError as error:
        return replace(status, unknown=error.diagnostic)
    if record is None:
        return status
    return replace(
        status,
        generation=record.id,
        model=record.model,
        served_name=record.served_name,
        port=record.port,
        promoted_at=record.promoted_at,
        gate_result=record.gate_result,
    )


def _container(system: System, service: str) -> ContainerStatus | None:
    runtime = snapshot.current_runtime(system, service)
    try:
        container = runtime.find(service)
    except RuntimeUnavailableError as error:
        return ContainerStatus(unknown=runtime_wait.unavailable(runtime, error))
    except RuntimeRefusedError as error:
        return ContainerStatus(unknown=Diagnostic(runtime.daemon, str(error), code="runtime-refused"))
    if container is None:
        return None
    return ContainerStatus(container.id, container.running, container.started_at, container.generation)
