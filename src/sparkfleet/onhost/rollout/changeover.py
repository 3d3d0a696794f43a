"""Moves instances, units and records from one generation to the other, and back.

``switch_over`` frees names, port and memory for the candidate. ``place``, ``hand_over`` and ``retire`` make
it the service; ``revert`` undoes all of that from ``before.json``. These four may be repeated after any kill.
"""

from __future__ import annotations

from typing import Any

from sparkfleet.contract.generation import Generation
from sparkfleet.onhost.cluster import ranks
from sparkfleet.onhost.gate.candidate_start import CandidateFailedError, Failure
from sparkfleet.onhost.machine import memory
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import snapshot
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Instance, Role, RuntimeRefusedError


def tidy(system: System, services: tuple[str, ...]) -> None:
    """Remove what an earlier rollout left beside a service; a lone ``.old`` container gets its name back."""
    for service in services:
        leftover = system.runtime.find(service, Role.CANDIDATE)
        if leftover:
            system.runtime.remove(leftover.id)
        old = system.runtime.find(service, Role.REPLACED)
        if old and system.runtime.find(service):
            system.runtime.remove(old.id)
        elif old:
            system.runtime.assign(old.id, service, Role.CURRENT)


def stop(system: System, service: str, entry: dict[str, Any]) -> None:
    """Stop a service's unit and container. Raise CandidateFailedError when the container will not end."""
    grace = snapshot.stop_timeout(entry)
    systemctl(system, "stop", units.unit_name(service), timeout_s=grace + 90)
    container = system.runtime.inspect(entry["container"]) if entry["container"] else None
    if container is None:
        return
    system.runtime.adopt(container.id)
    if container.running:
        system.runtime.stop(container.id, grace)
    container = system.runtime.inspect(container.id)
    if container and container.running:
        raise CandidateFailedError(
            Failure(f"the running engine {service} does not end, not even after SIGKILL")
        )


def switch_over(system: System, journal: Journal, generation: Generation, candidate_id: str) -> None:
    """Stop the old services, wait for their memory, free the names, rename the candidate."""
    state = journal.before
    for service, entry in state.items():
        if entry["container"] or entry["active"]:
            journal.log("note", f"{service} stops", phase="stop")
            stop(system, service, entry)
    stopped = any(entry["running"] for entry in state.values())
    found = memory.wait_back(system, generation.need_mib) if stopped else system.memory()
    journal.log("note", f"{found.available} MiB available", phase="memory")
    if found.available < generation.need_mib:
        raise CandidateFailedError(
            Failure(
                f"memory was not freed: {found.available} MiB available, {generation.need_mib} needed",
                "another process uses memory: see `nvidia-smi` and `ps` on the Spark",
            )
        )
    for service, entry in state.items():
        if entry["container"]:
            system.runtime.assign(entry["container"], service, Role.REPLACED)
    system.runtime.assign(candidate_id, generation.service, Role.CURRENT)


def place(system: System, record: dict[str, Any], token: str) -> None:
    """Write unit and record of the new generation; starts nothing. Raise CandidateFailedError."""
    generation = Generation.from_json(record)
    snapshot.write_unit(system, generation.service, generation.unit)
    if token:
        store.keep_cluster_key(system.paths.state, generation.service, record["swap"], token)
    # The supervisor adopts only the container that the record names: write the record before the start.
    store.set_current(system.paths.state, generation.service, record)
    systemctl(system, "reset-failed", generation.unit_name)
    enabled = systemctl(system, "enable", generation.unit_name)
    if enabled.code:
        raise CandidateFailedError(
            Failure(f"systemd could not enable {generation.unit_name}: {enabled.text}")
        )


def hand_over(system: System, journal: Journal, record: dict[str, Any]) -> None:
    """Let the unit adopt the serving container. Raise CandidateFailedError when systemd refuses."""
    generation, container_id = Generation.from_json(record), record["container"]["id"]
    was = system.runtime.inspect(container_id)
    if generation.rank and was and was.running:
        ranks.record_run(system, generation.service, was, record["swap"])
    started = systemctl(system, "start", generation.unit_name)
    now = system.runtime.inspect(container_id)
    if started.code or not now or not now.running:
        why = started.text or "the engine ended"
        raise CandidateFailedError(Failure(f"systemd could not take over {generation.unit_name}: {why}"))
    if was and now.started_at != was.started_at:
        journal.log("note", f"{generation.service} had ended and was started by its unit", phase="promote")


def retire(system: System, journal: Journal, record: dict[str, Any]) -> None:
    """Remove what the promoted generation replaced, and keep that generation for a rollback.

    The new one serves and is supervised: no failure after this point causes a rollback.
    """
    generation = Generation.from_json(record)
    for service, entry in journal.before.items():
        try:
            if entry["container"] and entry["container"] != record["container"]["id"]:
                system.runtime.remove(entry["container"])
            if service != generation.service:
                forget(system, service)
        except (RuntimeRefusedError, OSError) as error:
            journal.log(
                "note", f"leftovers of {service} stay until the next rollout: {error}", phase="promote"
            )
    store.forget_cluster_keys(system.paths.state, generation.service, record["swap"])
    try:
        store.remember(system.paths.state, record)
    except OSError as error:
        journal.log("note", f"not kept for a rollback: {error}", phase="promote")


def forget(system: System, service: str) -> None:
    """Remove a service's unit and record; its generations stay for a rollback."""
    unit = units.unit_name(service)
    systemctl(system, "disable", unit)
    snapshot.write_unit(system, service, None)
    systemctl(system, "reset-failed", unit)
    store.retire(system.paths.state, service)


def revert(system: System, journal: Journal, generation: Generation) -> None:
    """Restore containers, units and records from ``before.json``; starts nothing."""
    candidate = find_candidate(system, journal, generation)
    if candidate:
        for service in journal.before:
            if snapshot.is_active(system, service):  # not one that systemd is only about to start at boot
                systemctl(system, "stop", units.unit_name(service))
        system.runtime.remove(candidate.id)
    for service, entry in journal.before.items():
        if not entry["enabled"]:
            systemctl(system, "disable", units.unit_name(service))
        snapshot.write_unit(system, service, entry["unit"], entry["drop_ins"])
        store.set_current(system.paths.state, service, entry["current"])
        if entry["container"]:
            _name_back(system, journal, service, entry)


def _name_back(system: System, journal: Journal, service: str, entry: dict[str, Any]) -> None:
    container = system.runtime.inspect(entry["container"])
    if container and container.name != system.runtime.name(service, Role.CURRENT):
        system.runtime.assign(container.id, service, Role.CURRENT)
    known = snapshot.generation(entry)
    if container is None and known and not system.runtime.find(service):
        journal.log(
            "note", f"the {system.runtime.noun} of {service} is gone: it is recreated", phase="restore"
        )
        workload = system.runtime.workload(known)
        made = system.runtime.create(service, Role.CURRENT, workload)
        record = {**entry["current"], "container": {"id": made, "generation": known.id}}
        store.set_current(system.paths.state, service, record)


def find_candidate(system: System, journal: Journal, generation: Generation) -> Instance | None:
    """Return the candidate by its recorded id, or by its first name when a kill came before the record."""
    created = journal.last("created")
    if created:
        return system.runtime.inspect(created["container"])
    leftover = system.runtime.find(generation.service, Role.CANDIDATE)
    return leftover if leftover and leftover.service == generation.service else None


def discard(system: System, journal: Journal, generation: Generation) -> None:
    """Remove the candidate; nothing else has changed yet."""
    candidate = find_candidate(system, journal, generation)
    if candidate:
        system.runtime.remove(candidate.id)
