"""Restarts the previous services after a failed rollout, each proved by its own gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.contract.generation import Generation
from sparkfleet.contract.rollout import RESTORE_FAILED, RESTORE_UNPROVEN, ServiceBefore
from sparkfleet.onhost.cluster import ranks
from sparkfleet.onhost.gate.candidate_start import Progress
from sparkfleet.onhost.gate.failure import StartFailedError
from sparkfleet.onhost.gate.gate import EngineEndedError, Gate
from sparkfleet.onhost.machine import mounts, valve
from sparkfleet.onhost.machine.system import System, runtime_of, systemctl
from sparkfleet.onhost.rollout import snapshot
from sparkfleet.onhost.state import units
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Runtime, RuntimeRefusedError, RuntimeUnavailableError

STATE_S = 2.0
"""Seconds between two queries of systemd."""
MOUNTS_S = 300.0
"""Seconds for a disk to be mounted before a restart: after a boot it may come late."""
REFUSED_S = 60.0
"""Seconds for the runtime to accept the start of a container that it refused."""


@dataclass(frozen=True)
class Restarted:
    """The services that were started again, and what this run knows of each."""

    serving: tuple[str, ...] = ()
    """Those that passed their gate in this run."""
    unproven: tuple[Diagnostic, ...] = ()
    """Those that run without a gate of their own."""
    failed: Mapping[str, Diagnostic] = field(default_factory=dict)
    """Those that did not start or did not pass."""
    serving_at: float = 0.0
    """Unix time of the last first right response; 0 for none."""


def not_restored(service: str, found: str) -> Diagnostic:
    """Return why a service does not serve again."""
    hint = f"run again: the plan shows what runs; on the Spark: journalctl -u {units.unit_name(service)}"
    return Diagnostic(service, found, hint=hint, code=RESTORE_FAILED)


def restart_previous(system: System, journal: Journal, candidate: Generation) -> Restarted:
    """Start and gate every service that ran before. A failure does not keep the next one from its start."""
    recorded = snapshot.recorded(journal).items()
    served = {name: before for name, before in recorded if before.running or before.active}
    started = {name: _start(system, journal, name, before, candidate) for name, before in served.items()}
    failed = {name: diagnostic for name, diagnostic in started.items() if diagnostic}
    serving, unproven, serving_at = [], [], 0.0
    for name, before in served.items():
        if name in failed:
            continue
        generation, reason = before.current, _has_no_gate(before)
        if reason or generation is None:
            unproven.append(_unproven(name, reason))
            continue
        try:
            serving_at = max(serving_at, _prove(system, journal, generation, active=before.active))
            serving.append(name)
        except StartFailedError as error:
            failed[name] = replace(error.diagnostic, location=name)
        except (EngineEndedError, RuntimeRefusedError) as error:
            failed[name] = not_restored(name, str(error))
    return Restarted(tuple(serving), tuple(unproven), failed, serving_at)


def _unproven(service: str, reason: str) -> Diagnostic:
    found = f"restarted, but nothing proves that it answers: {reason}"
    hint = "send it a request; `sparkfleet status` shows its container and unit"
    return Diagnostic(service, found, hint=hint, severity=Severity.WARNING, code=RESTORE_UNPROVEN)


def _has_no_gate(before: ServiceBefore) -> str:
    """Return why no gate can be run for a service, "" when one can."""
    if before.current is None:
        return "there is no record of it"
    if diagnostic := ranks.unsupported(before.current):
        return diagnostic.message
    rank = before.current.rank
    if rank and not rank.is_head:
        return f"rank {rank.rank} of the cluster {rank.cluster} answers through its head, {rank.name(0)}"
    return ""


def _start(
    system: System, journal: Journal, service: str, before: ServiceBefore, candidate: Generation
) -> Diagnostic | None:
    """Start a service the way it ran before; return None, or why it does not run."""
    journal.log("note", f"restarting {service}", phase="restore")
    runtime = runtime_of(system, before.current, candidate)
    if before.current:

        def report(text: str) -> None:
            journal.log("waiting", text, phase="restore")

        workload = runtime.workload(before.current)
        obstacle = mounts.wait(system, workload, MOUNTS_S, report)
        if obstacle:
            return Diagnostic(service, obstacle, hint=mounts.REMEDY, code="mount-missing")
    if before.unit is not None and before.active:
        unit = units.unit_name(service)
        systemctl(system, "reset-failed", unit)
        result = systemctl(system, "start", unit, timeout_s=600)
        return not_restored(service, f"systemctl start {unit}: {result.text}") if result.code else None
    container = runtime.find(service)
    if container is None:
        return not_restored(service, f"its {runtime.noun} is gone")
    try:
        valve.before_start(system)  # a unit does that by itself
        runtime.start(container.id)
    except RuntimeRefusedError as error:
        return not_restored(service, f"{runtime.daemon}: {error}")
    return None


def _prove(system: System, journal: Journal, generation: Generation, *, active: bool) -> float:
    """Gate a restored service; return when it served. Raise StartFailedError or EngineEndedError.

    ``active``: its unit runs it, and may try again after a failed start.
    """
    service, runtime = generation.service, runtime_of(system, generation)
    progress = Progress(system, journal, generation.engine, (), system.monotonic())
    checked_at, refused_since = [0.0], [0.0]

    def check_alive() -> None:
        progress.tick()
        if system.monotonic() - checked_at[0] < STATE_S:
            return
        checked_at[0] = system.monotonic()
        if active and not snapshot.is_active(system, service):
            raise EngineEndedError(f"systemd gave up {units.unit_name(service)}{_reason(runtime, service)}")
        try:
            container = runtime.find(service)
        except RuntimeUnavailableError:
            return  # the supervisor waits for the daemon, the gate's deadline counts
        if container is None:
            raise EngineEndedError(f"its {runtime.noun} is gone")
        if container.running or not container.error:
            refused_since[0] = 0.0
            if not container.running and not active:
                raise EngineEndedError("its engine ended")
            return
        refused_since[0] = refused_since[0] or system.monotonic()
        if system.monotonic() - refused_since[0] >= REFUSED_S:
            raise EngineEndedError(f"{runtime.daemon} does not start it: {container.error}")

    gate = Gate(system, generation, check_alive, progress.wait_for)
    gate.find_api_key(runtime.find(service))
    return gate.prove().serving_at


def _reason(runtime: Runtime, service: str) -> str:
    """Return why the container of a service does not run, as far as the runtime knows."""
    try:
        container = runtime.find(service)
    except (RuntimeRefusedError, RuntimeUnavailableError):
        return ""
    if container is None:
        return f": its {runtime.noun} is gone"
    return f": {container.error}" if container.error else f": exit code {container.exit_code}"
