"""The events of a rollout as they come, and the status of the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import detached
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.state.journal import read_events
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError

POLL_S = 0.2


def follow(system: System, rollout_id: str, since: int, wait_s: float) -> Iterator[dict[str, Any]]:
    """Yield the events from ``since`` on; wait up to ``wait_s`` seconds for new ones. A result comes last."""
    directory = store.rollout_directory(system.paths.state, rollout_id)
    if not (directory / "request.json").exists():
        raise FileNotFoundError(f"there is no rollout {rollout_id} on this Spark")
    deadline = system.monotonic() + wait_s
    events = read_events(directory, since)
    while not events and system.monotonic() < deadline and not _over(directory, since):
        system.sleep(POLL_S)
        events = read_events(directory, since)
    yield from events
    ended = any(event.get("kind") == "result" for event in events)
    result = files.read_json(directory / "result.json")
    if result and not ended:  # the event was lost (a full disk, a kill in between): the file counts
        yield {"n": since + len(events), "kind": "result", **result}
    elif not result and not events and not detached.runs(system, rollout_id):
        text = "its program does not run; the next rollout, or `recover`, finishes it"
        yield {"n": since, "kind": "waiting", "text": text, "stalled": True}


def status(system: System) -> dict[str, Any]:
    """Return services, containers, units, rollouts and memory as plain data."""
    state = system.paths.state
    memory = system.memory()
    recent = [files.read_json(path / "result.json") for path in store.rollouts(state)]
    return {
        "services": {name: _service(system, name) for name in store.services(state)},
        "swap": (store.unfinished(state) or ("",))[0],
        "results": [result for result in recent if result],
        "memory": {"total_mib": memory.total, "available_mib": memory.available},
    }


def _service(system: System, service: str) -> dict[str, Any]:
    books = store.current(system.paths.state, service) or {}
    kept = [{"id": one.get("id"), "promoted_at": one.get("promoted_at"), "model": one.get("model")}
            for one in store.generations(system.paths.state, service)]  # fmt: skip
    unit = units.unit_name(service)
    try:
        container = system.runtime.find(service)
        runs = {"id": container.id, "running": container.running, "started_at": container.started_at,
                "generation": container.generation} if container else {}  # fmt: skip
    except (RuntimeRefusedError, RuntimeUnavailableError) as error:
        runs = {"unknown": str(error)}
    return {
        "generation": books.get("id"),
        **{key: books.get(key) for key in ("model", "served_name", "port", "promoted_at", "gate_result")},
        "active": systemctl(system, "is-active", unit).out.strip(),
        "enabled": systemctl(system, "is-enabled", unit).out.strip(),
        "container": runs,
        "generations": kept,
    }


def _over(directory: Any, since: int) -> bool:
    result = files.read_json(directory / "result.json")
    return result is not None and not read_events(directory, since)
