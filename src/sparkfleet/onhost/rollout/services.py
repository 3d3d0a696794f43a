"""Changes of a service that need no rollout (unit repaired, stop, remove), and the request of a rollback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparkfleet.contract.generation import (
    ContainerOf,
    CurrentGeneration,
    Generation,
    PromotedGeneration,
    RolloutRequest,
    convert,
)
from sparkfleet.contract.rollout import ServiceChanged
from sparkfleet.onhost.machine import files, programs
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import changeover, snapshot
from sparkfleet.onhost.state import store, units


class RefusedError(Exception):
    """The change is refused; ``str()`` is the reason and the remedy."""


def repair(system: System, generation: Generation, by: str = "") -> ServiceChanged:
    """Write unit and record of ``generation``; check that it runs under a supervisor of today's programs
    (``by``, their identity). Never restarts a running container.
    """
    service, unit, noun = generation.service, generation.unit_name, system.runtime.noun
    with store.lock(system.paths.state, wait=False):
        container = system.runtime.find(service)
        if container is None or container.service != service:
            raise RefusedError(f"there is no {noun} {service} managed by sparkfleet: this needs a rollout")
        known = store.current(system.paths.state, service)
        if known and not _same_workload(system, known, generation):
            raise RefusedError(f"the {noun} of {service} is another generation's: this needs a rollout")
        if known is None and container.generation != generation.id:
            raise RefusedError(
                f"the {noun} of {service} is generation {container.generation}: this needs a rollout"
            )
        _require_own_unit(system, service)
        changed = snapshot.write_unit(system, service, generation.unit)
        record = convert(CurrentGeneration, known or generation, **vars(generation))
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
        for argv in (("enable", unit), (start, unit)):
            done = systemctl(system, *argv, timeout_s=330)
            if done.code:
                raise RefusedError(f"systemctl {' '.join(argv)}: {done.text}")
    return ServiceChanged(service, f"{service} is as declared", generation.id, changed)


def stop(system: System, service: str, *, remove: bool) -> ServiceChanged:
    """Stop a service, and after a reboot, too; ``remove``: with its container, unit and state."""
    noun = system.runtime.noun
    with store.lock(system.paths.state, wait=False):
        container = system.runtime.find(service)
        if container and container.service != service:
            raise RefusedError(
                f"{noun} {service} is not managed by sparkfleet: no label io.sparkfleet.service"
            )
        _require_own_unit(system, service)
        before = snapshot.of_service(system, service)
        systemctl(system, "disable", units.unit_name(service))
        changeover.stop(system, service, before)
        if remove:
            if container:
                system.runtime.remove(container.id)
            changeover.forget(system, service)
            files.remove(store.service_directory(system.paths.state, service))
    done = "removed" if remove else "stopped, and stays so after a reboot"
    return ServiceChanged(service, f"{service} is {done}")


def rollback(system: System, service: str, rollout_id: str) -> tuple[RolloutRequest, ...]:
    """Return the requests that roll back to the generation before this service's, in order.

    Several, where it replaced several services.
    """
    record = store.current(system.paths.state, service)
    if record is None:
        raise RefusedError(f"{service} has no record on this host: it does not serve here")
    previous: Sequence[PromotedGeneration] = record.replaced
    if not previous:
        earlier = [one for one in store.generations(system.paths.state, service) if one.id != record.id]
        previous = earlier[-1:]
    if not previous:
        raise RefusedError(f"{service} is the first generation here: there is no generation to roll back to")
    container = system.runtime.find(service)
    first, *more = (convert(Generation, one) for one in previous)
    expect = ((service, container.id if container else ""),)
    return (
        RolloutRequest(rollout_id, first, (service,), expect),
        *(RolloutRequest(f"{rollout_id}-{number}", one, ()) for number, one in enumerate(more, start=2)),
    )


def _require_own_unit(system: System, service: str) -> None:
    path = snapshot.unit_path(system, service)
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(units.MARK):
        raise RefusedError(f"{path} is not managed by sparkfleet: it does not begin with {units.MARK!r}")


def _same_workload(system: System, known: Generation, requested: Generation) -> bool:
    """Return whether both need the very same instance; unit, gate and limits are corrected in place."""
    mine, theirs = (system.runtime.workload(one).identity for one in (known, requested))
    return mine == theirs


def _wait_for_supervisor(system: System, unit: str) -> None:
    deadline = system.monotonic() + 30
    while has_supervisor(system, unit):
        if system.monotonic() >= deadline:
            raise RefusedError(f"the supervisor of {unit} does not release its engine: journalctl -u {unit}")
        system.sleep(0.2)


def _supervised_by(system: System, unit: str) -> str:
    """Return the identity of the programs that the unit's supervisor was started from."""
    return programs.read_status(systemctl(system, "show", "--property=StatusText", "--value", unit).out)


def has_supervisor(system: System, unit: str) -> bool:
    """Return whether a supervisor runs for the service now."""
    return systemctl(system, "is-active", unit).out.strip() == "active"
