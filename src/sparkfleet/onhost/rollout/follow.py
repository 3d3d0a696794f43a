"""The events of a rollout as they come, and the status of the host."""

from __future__ import annotations

from typing import Any

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.rollout import WAITING, Event, RolloutResult
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import transient_unit
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

    def stopped() -> list[Event]:
        if transient_unit.runs(system, rollout_id):
            return []
        text = "its program does not run; the next rollout, or `recover`, finishes it"
        return [Event(since, WAITING, text=text, stalled=True)]

    return follow_events(system, directory, RolloutResult, since, wait_s, stopped=stopped)


def status(system: System) -> dict[str, Any]:
    """Return services, containers, units, rollouts and memory as plain data, for people."""
    state = system.paths.state
    memory = system.memory()
    return {
        "services": {name: _service(system, name) for name in store.services(state)},
        "rollout": (store.unfinished(state) or ("",))[0],
        "results": [files.read_json(path / "result.json") or {} for path in store.rollouts(state)],
        "memory": {"total_mib": memory.total, "available_mib": memory.available},
    }


def _service(system: System, service: str) -> dict[str, Any]:
    unit = units.unit_name(service)
    return {
        **_record(system, service),
        "active": systemctl(system, "is-active", unit).out.strip(),
        "enabled": systemctl(system, "is-enabled", unit).out.strip(),
        "container": _container(system, service),
        "generations": [
            {"id": one.id, "promoted_at": one.promoted_at, "model": one.model}
            for one in store.generations(system.paths.state, service)
        ],
    }


def _record(system: System, service: str) -> dict[str, Any]:
    try:
        record = store.current(system.paths.state, service)
    except ContractError as error:
        return {"unknown": str(error)}
    if record is None:
        return {}
    return {
        "generation": record.id,
        "model": record.model,
        "served_name": record.served_name,
        "port": record.port,
        "promoted_at": record.promoted_at,
        "gate_result": record.gate_result,
    }


def _container(system: System, service: str) -> dict[str, Any]:
    try:
        container = system.runtime.find(service)
    except (RuntimeRefusedError, RuntimeUnavailableError) as error:
        return {"unknown": str(error)}
    if container is None:
        return {}
    return {
        "id": container.id,
        "running": container.running,
        "started_at": container.started_at,
        "generation": container.generation,
    }
