"""Changes of a service that need no rollout (unit repaired, stop, remove), and the request of a rollback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import (
    ContainerOf,
    CurrentGeneration,
    Generation,
    PromotedGeneration,
    RollbackRequest,
    RolloutRequest,
    convert,
)
from sparkfleet.contract.rollout import ServiceBefore, ServiceChanged
from sparkfleet.contract.state import StopRecord
from sparkfleet.onhost.machine import files, programs
from sparkfleet.onhost.machine.system import System, runtime_of, systemctl
from sparkfleet.onhost.rollout import changeover, checks, snapshot
from sparkfleet.onhost.state import store, units
from sparkfleet.runtimes.base import Runtime


def repair(system: System, generation: Generation, by: str = "") -> ServiceChanged:
    """Write unit and record of ``generation``; check that it runs under a supervisor of today's programs
    (``by``, their identity). Never restarts a running container. Raise SparkfleetError when it is refused.
    """
    service, unit, runtime = generation.service, generation.unit_name, runtime_of(system, generation)
    noun = runtime.noun
    with store.lock(system.paths.state, wait=False):
        container = runtime.find(service)
        if container is None or container.service != service:
            raise _needs_rollout(service, f"there is no {noun} {service} managed by sparkfleet")
        current_record = store.current(system.paths.state, service)
        if current_record and not _same_workload(system, current_record, generation):
            raise _needs_rollout(service, f"its {noun} is another generation's")
        if current_record is None and container.generation != generation.id:
            raise _needs_rollout(service, f"its {noun} is generation {container.generation}")
        _require_own_unit(system, service)
        changed = snapshot.write_unit(system, service, generation.unit)
        record = convert(CurrentGeneration, current_record or generation, **vars(generation))
        created = ContainerOf(container.id, container.generation)
        store.set_current(system.paths.state, service, replace(record, container=created))
        start = "start"
        if (changed or _supervised_by(system, unit) != by) and has_supervisor(system, unit):
            # The supervisor ends and leaves the engine running; the new one adopts it. `start` would wait
            # for RestartSec first, `restart` does not, and has nothing left to stop.
            systemctl(system, "kill", "--signal=SIGUSR1", unit)
            _wait_for_supervisor(system, unit)
            start = "restart"
        systemctl(system, "reset-failed", unit)
        files.remove(store.service_directory(system.paths.state, service) / "starts.json")
        store.forget_stop(system.paths.state, service)
        for argv in (("enable", unit), (start, unit)):
            result = systemctl(system, *argv, timeout_s=330)
            if result.code:
                raise _unit_failed(unit, f"systemctl {' '.join(argv)}: {result.text}")
    return ServiceChanged(service, f"{service} is as declared", generation.id, changed)


def stop(system: System, service: str, operator: str, reason: str = "") -> ServiceChanged:
    """Stop a service until its next start, also over reboots, and record who did it.

    One that is stopped already keeps its record. Raise SparkfleetError when it is refused.
    """
    with store.lock(system.paths.state, wait=False):
        runtime, before = _managed(system, service)
        if not before.container and before.unit is None:
            raise SparkfleetError(
                Diagnostic(
                    service,
                    "there is no such service on this host",
                    hint="sparkfleet status INVENTORY lists the services of every host",
                    code="service-not-found",
                )
            )
        if before.running or before.active or not store.stop_record(system.paths.state, service):
            record = StopRecord(operator, round(system.now(), 3), reason)
            store.record_stop(system.paths.state, service, record)
        _end(system, runtime, service, before)
    return ServiceChanged(service, f"{service} is stopped, and stays so after a reboot")


def remove(system: System, service: str) -> ServiceChanged:
    """Stop a service and remove its container, unit and state. Raise SparkfleetError when it is refused."""
    with store.lock(system.paths.state, wait=False):
        runtime, before = _managed(system, service)
        _end(system, runtime, service, before)
        if before.container:
            runtime.remove(before.container)
        changeover.forget(system, service)
        files.remove(store.service_directory(system.paths.state, service))
    return ServiceChanged(service, f"{service} is removed")


def _managed(system: System, service: str) -> tuple[Runtime, ServiceBefore]:
    """Return runtime and state of a service. Raise SparkfleetError for what sparkfleet does not manage."""
    runtime = runtime_of(system, store.current(system.paths.state, service))
    container, noun = runtime.find(service), runtime.noun
    if container and container.service != service:
        foreign = f"not managed by sparkfleet: no {runtime.mark}"
        hint = f"rename or remove that {noun} yourself"
        raise SparkfleetError(
            Diagnostic(f"{noun} {service}", foreign, hint=hint, code="container-name-taken")
        )
    _require_own_unit(system, service)
    return runtime, snapshot.of_service(system, service)


def _end(system: System, runtime: Runtime, service: str, before: ServiceBefore) -> None:
    systemctl(system, "disable", units.unit_name(service))
    changeover.stop(system, runtime, service, before)


def rollback(system: System, service: str, rollout_id: str) -> RollbackRequest:
    """Return the request that rolls back to the generation before this service's.

    Raise SparkfleetError when there is none.
    """
    record = store.current(system.paths.state, service)
    if record is None:
        raise _no_generation(service, "it has no record on this host: it does not serve here")
    previous: Sequence[PromotedGeneration] = record.replaced
    if not previous:
        earlier = [one for one in store.generations(system.paths.state, service) if one.id != record.id]
        previous = earlier[-1:]
    if not previous:
        raise _no_generation(service, "it is the first generation here: there is none to roll back to")
    container = runtime_of(system, record).find(service)
    first, *more = (convert(Generation, one) for one in previous)
    expect = ((service, container.id if container else ""),)
    then = (RolloutRequest(f"{rollout_id}-{number}", one, ()) for number, one in enumerate(more, start=2))
    return RollbackRequest(rollout_id, first, (service,), expect, then=tuple(then))


def _needs_rollout(service: str, found: str) -> SparkfleetError:
    hint = "run again: the new plan replaces it by a rollout"
    return SparkfleetError(Diagnostic(service, found, hint=hint, code="host-changed-since-plan"))


def _unit_failed(unit: str, found: str) -> SparkfleetError:
    return SparkfleetError(Diagnostic(unit, found, hint=f"journalctl -u {unit}", code="unit-failed"))


def _no_generation(service: str, found: str) -> SparkfleetError:
    hint = "sparkfleet status INVENTORY lists the running services"
    return SparkfleetError(Diagnostic(service, found, hint=hint, code="rollback-unavailable"))


def _require_own_unit(system: System, service: str) -> None:
    if unmanaged := checks.unmanaged_unit(system, service):
        raise SparkfleetError(unmanaged)


def _same_workload(system: System, known: Generation, requested: Generation) -> bool:
    """Return whether both need the same instance; unit, gate and limits are corrected in place."""
    mine, theirs = (
        (one.runtime, runtime_of(system, one).workload(one).identity) for one in (known, requested)
    )
    return mine == theirs


def _wait_for_supervisor(system: System, unit: str) -> None:
    deadline = system.monotonic() + 30
    while has_supervisor(system, unit):
        if system.monotonic() >= deadline:
            raise _unit_failed(unit, "its supervisor does not release its engine")
        system.sleep(0.2)


def _supervised_by(system: System, unit: str) -> str:
    """Return the identity of the programs that the unit's supervisor was started from."""
    return programs.read_status(systemctl(system, "show", "--property=StatusText", "--value", unit).out)


def has_supervisor(system: System, unit: str) -> bool:
    """Return whether a supervisor runs for the service now."""
    return systemctl(system, "is-active", unit).out.strip() == "active"
