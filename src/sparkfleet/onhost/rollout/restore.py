"""Restarts the previous services after a failed rollout, each proved by its own gate."""

from __future__ import annotations

from dataclasses import dataclass

from sparkfleet.contract.rollout import ServiceBefore
from sparkfleet.onhost.gate.candidate_start import Progress
from sparkfleet.onhost.gate.failure import StartFailedError
from sparkfleet.onhost.gate.gate import EngineEndedError, Gate
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
    recorded = snapshot.recorded(journal).items()
    served = {name: before for name, before in recorded if before.running or before.active}
    failed = {name: text for name, before in served.items() if (text := _start(system, name, before))}
    diagnostics = list(failed.values())
    serving, serving_at = [], 0.0
    for name, before in served.items():
        if name in failed:
            continue
        try:
            serving_at = max(serving_at, _prove(system, journal, name, before))
            serving.append(name)
        except StartFailedError as error:
            diagnostics.append(f"{name}: {error.diagnostic.message}")
        except EngineEndedError as error:
            diagnostics.append(f"{name}: {error}")
    return Restarted(tuple(serving), tuple(diagnostics), serving_at)


def _start(system: System, service: str, before: ServiceBefore) -> str:
    """Start a service the way it ran before; return "" or the problem."""
    if before.unit is not None and before.active:
        unit = units.unit_name(service)
        systemctl(system, "reset-failed", unit)
        done = systemctl(system, "start", unit, timeout_s=600)
        return f"{service}: systemctl start {unit}: {done.text}" if done.code else ""
    try:
        valve.flush(system)  # a unit does that by itself
        system.runtime.start(before.container)
    except (RuntimeRefusedError, RuntimeUnavailableError) as error:
        return f"{service}: {error}"
    return ""


def _prove(system: System, journal: Journal, service: str, before: ServiceBefore) -> float:
    """Gate a restored service; return when it served. One without a record has no gate, nor has a rank that
    is not the head: such a service only has to run.
    """
    generation = before.current
    journal.log("note", f"restarting {service}", phase="restore")
    if generation is None or (generation.rank and not generation.rank.is_head):
        return system.now()
    container = system.runtime.find(service)
    progress = Progress(system, journal, generation.engine, (), system.monotonic())
    checked_at = [0.0]

    def check_alive() -> None:
        progress.tick()
        if system.monotonic() - checked_at[0] < STATE_S:
            return
        checked_at[0] = system.monotonic()
        # Its unit may try again after a failed start; it is lost only when the unit has given up.
        if before.active:
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
