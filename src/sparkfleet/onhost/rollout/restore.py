"""Restarts what served before a rollout that failed, and proves it by its own gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparkfleet.contract.generation import Generation
from sparkfleet.onhost.gate.candidate_start import Progress
from sparkfleet.onhost.gate.gate import EngineEndedError, Gate, GateFailedError
from sparkfleet.onhost.machine import valve
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import snapshot
from sparkfleet.onhost.state import units
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError

STATE_S = 2.0
"""Seconds between two queries of systemd."""


@dataclass(frozen=True)
class Restarted:
    """The restored services. ``serving_at``: unix time of the last one's first right response, 0 for none."""

    serving: tuple[str, ...] = ()
    diagnostics: tuple[str, ...] = ()
    serving_at: float = 0.0


def restart_previous(system: System, journal: Journal) -> Restarted:
    """Start and gate every service that ran before. A failure does not keep the next one from its start."""
    wanted = {name: entry for name, entry in journal.before.items() if entry["running"] or entry["active"]}
    diagnostics = [
        diagnostic for name, entry in wanted.items() if (diagnostic := _start(system, name, entry))
    ]
    serving, serving_at = [], 0.0
    for name, entry in wanted.items():
        if any(diagnostic.startswith(f"{name}: ") for diagnostic in diagnostics):
            continue
        try:
            serving_at = max(serving_at, _prove(system, journal, name, entry))
            serving.append(name)
        except (GateFailedError, EngineEndedError) as error:
            diagnostics.append(f"{name}: {error or 'systemd gave up its unit'}")
    return Restarted(tuple(serving), tuple(diagnostics), serving_at)


def _start(system: System, service: str, entry: dict[str, Any]) -> str:
    """Start a service the way it ran before; return "" or the problem."""
    if entry["unit"] is not None and entry["active"]:
        unit = units.unit_name(service)
        systemctl(system, "reset-failed", unit)
        done = systemctl(system, "start", unit, timeout_s=600)
        return f"{service}: systemctl start {unit}: {done.text}" if done.code else ""
    try:
        valve.flush(system)  # a unit does that by itself
        system.runtime.start(entry["container"])
    except (RuntimeRefusedError, RuntimeUnavailableError) as error:
        return f"{service}: {error}"
    return ""


def _prove(system: System, journal: Journal, service: str, entry: dict[str, Any]) -> float:
    """Gate a restored service; return when it served. One without a record has no gate, nor has a rank that
    is not the head: such a service only has to run.
    """
    generation: Generation | None = snapshot.generation(entry)
    journal.log("note", f"restarting {service}", phase="restore")
    if generation is None or (generation.rank and not generation.rank.is_head):
        return system.now()
    container = system.runtime.find(service)
    progress = Progress(system, journal, generation.engine, (), system.monotonic())
    asked = [0.0]

    def check_alive() -> None:
        progress.tick()
        if system.monotonic() - asked[0] < STATE_S:
            return
        asked[0] = system.monotonic()
        # Its unit may try again after a failed start; it is lost only when the unit has given up.
        if entry["active"]:
            if not snapshot.is_active(system, service):
                raise EngineEndedError(f"systemd gave up {units.unit_name(service)}")
        elif not _runs(system, service):
            raise EngineEndedError("its engine ended")

    gate = Gate(system, generation, check_alive, progress.wait_for)
    gate.find_api_key(container)
    return gate.prove().serving_at


def _runs(system: System, service: str) -> bool:
    container = system.runtime.find(service)
    return bool(container and container.running)
