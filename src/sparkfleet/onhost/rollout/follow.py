"""The events of a rollout as they come, and the status of the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.rollout import RESULT, WAITING, Event, RolloutResult
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import transient_unit
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.state.journal import read_events
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError

POLL_S = 0.2


def follow(system: System, rollout_id: str, since: int, wait_s: float) -> Iterator[Event]:
    """Yield the events from ``since`` on; wait up to ``wait_s`` seconds for new ones. A result comes last.

    Raise ContractError for files that cannot be read.
    """
    directory = store.rollout_directory(system.paths.state, rollout_id)
    if not store.was_requested(system.paths.state, rollout_id):
        raise FileNotFoundError(f"there is no rollout {rollout_id} on this Spark")
    deadline = system.monotonic() + wait_s
    events = read_events(directory, since)
    while not events and system.monotonic() < deadline and not (directory / "result.json").exists():
        system.sleep(POLL_S)
        events = read_events(directory, since)
    yield from events
    ended = any(event.kind == RESULT for event in events)
    result = _result(directory)
    if result and not ended:  # the event was lost (a full disk, a kill in between): the file counts
        yield Event(since + len(events), RESULT, text=result.text, result=result.to_json())
    elif not result and not events and not transient_unit.runs(system, rollout_id):
        text = "its program does not run; the next rollout, or `recover`, finishes it"
        yield Event(since, WAITING, text=text, stalled=True)


def _result(directory: Path) -> RolloutResult | None:
    return files.read_document(RolloutResult, directory / "result.json")


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
