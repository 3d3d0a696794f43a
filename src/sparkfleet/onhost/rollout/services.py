"""Changes of a service that need no rollout (unit repaired, stop, remove), and the request of a rollback."""

from __future__ import annotations

from typing import Any

from sparkfleet.contract.generation import Generation, RolloutRequest
from sparkfleet.onhost.machine import files, programs
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import changeover, snapshot
from sparkfleet.onhost.state import store, units


class RefusedError(Exception):
    """The change is refused; ``str()`` is the reason and the remedy."""


def repair(system: System, generation: Generation, by: str = "") -> dict[str, Any]:
    """Write unit and record of ``generation``; check that it runs under a supervisor of today's programs
    (``by``, their identity). Never restarts a running container.
    """
    service, unit = generation.service, generation.unit_name
    with store.lock(system.paths.state, wait=False):
        container = system.runtime.find(service)
        if container is None or container.service != service:
            raise RefusedError(f"there is no container {service} of ours: this needs a rollout")
        books = store.current(system.paths.state, service) or {}
        known = Generation.from_json(books) if books else None
        if known and not _same_workload(system, known, generation):
            raise RefusedError(f"the container of {service} is another generation's: this needs a rollout")
        if known is None and container.generation != generation.id:
            raise RefusedError(
                f"the container of {service} is generation {container.generation}: this needs a rollout"
            )
        changed = snapshot.write_unit(system, service, generation.unit)
        made_for = {"id": container.id, "generation": container.generation}
        store.set_current(
            system.paths.state, service, {**books, **generation.to_json(), "container": made_for}
        )
        start = "start"
        if (changed or _guarded_by(system, unit) != by) and is_held(system, unit):
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
    return {
        "service": service,
        "generation": generation.id,
        "changed": changed,
        "text": f"{service} is as declared",
    }


def stop(system: System, service: str, *, remove: bool) -> dict[str, Any]:
    """Stop a service, and after a reboot, too; ``remove``: with its container, unit and state."""
    with store.lock(system.paths.state, wait=False):
        container = system.runtime.find(service)
        if container and container.service != service:
            raise RefusedError(
                f"container {service} is not managed by sparkfleet: no label io.sparkfleet.service"
            )
        path = snapshot.unit_path(system, service)
        if path.exists() and not path.read_text(encoding="utf-8").startswith(units.MARK):
            raise RefusedError(f"{path} is not ours")
        entry = snapshot.look_at(system, service)
        systemctl(system, "disable", units.unit_name(service))
        changeover.stop(system, service, entry)
        if remove:
            if container:
                system.runtime.remove(container.id)
            changeover.forget(system, service)
            files.remove(store.service_directory(system.paths.state, service))
    done = "removed" if remove else "stopped, and stays so after a reboot"
    return {"service": service, "text": f"{service} is {done}"}


def rollback(system: System, service: str, rollout_id: str) -> dict[str, Any]:
    """Return the request that rolls back to the generation before this service's.

    Where it replaced several services, the others' requests are under ``then``, in order.
    """
    books = store.current(system.paths.state, service)
    if books is None:
        raise RefusedError(f"{service} has no record on this host: it does not serve here")
    previous = [Generation.from_json(one) for one in books.get("replaced", ())]
    if not previous:
        kept = [one for one in store.generations(system.paths.state, service) if one["id"] != books["id"]]
        previous = [Generation.from_json(kept[-1])] if kept else []
    if not previous:
        raise RefusedError(f"{service} is the first generation here: there is no generation to roll back to")
    container = system.runtime.find(service)
    first = RolloutRequest(
        rollout_id,
        previous[0],
        (service,),
        ((service, container.id if container else ""),),
    )
    then = [
        RolloutRequest(f"{rollout_id}-{number}", one, ()) for number, one in enumerate(previous[1:], start=2)
    ]
    return {**first.to_json(), "then": [one.to_json() for one in then]}


def _same_workload(system: System, known: Generation, wanted: Generation) -> bool:
    """Return whether both need the very same instance; unit, gate and limits are corrected in place."""
    mine, theirs = (system.runtime.workload(one).identity for one in (known, wanted))
    return mine == theirs


def _wait_for_supervisor(system: System, unit: str) -> None:
    deadline = system.monotonic() + 30
    while is_held(system, unit):
        if system.monotonic() >= deadline:
            raise RefusedError(f"the supervisor of {unit} does not release its engine: journalctl -u {unit}")
        system.sleep(0.2)


def _guarded_by(system: System, unit: str) -> str:
    """Return the identity of the programs that the unit's supervisor was started from."""
    return programs.read_status(systemctl(system, "show", "--property=StatusText", "--value", unit).out)


def is_held(system: System, unit: str) -> bool:
    """Return whether a supervisor runs for the service now."""
    return systemctl(system, "is-active", unit).out.strip() == "active"
