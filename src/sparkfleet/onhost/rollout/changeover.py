"""Moves instances, units and records from one generation to the other, and back.

``switch_over`` frees names, port and memory for the candidate. ``place``, ``hand_over`` and ``retire`` make
it the service; ``revert`` undoes all of that from ``before.json``. These four may be repeated after any kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import (
    ContainerOf,
    CurrentGeneration,
    Generation,
    PromotedGeneration,
    RolloutRequest,
    convert,
)
from sparkfleet.contract.rollout import ServiceBefore
from sparkfleet.onhost.cluster import ranks
from sparkfleet.onhost.gate.failure import StartFailedError
from sparkfleet.onhost.machine import memory, mounts, rdma
from sparkfleet.onhost.machine.system import System, runtime_of, systemctl
from sparkfleet.onhost.rollout import checks, snapshot
from sparkfleet.onhost.rollout.restore import not_restored
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Instance, Role, Runtime, RuntimeRefusedError


def tidy(system: System, request: RolloutRequest) -> None:
    """Remove what an earlier rollout left beside a service; a lone ``.old`` container gets its name back."""
    for service in checks.affected_services(request):
        own, *more = checks.runtimes_of(system, request, service)
        for runtime in dict.fromkeys((own, *more, *_former_runtimes(system, service))):
            leftover = runtime.find(service, Role.CANDIDATE)
            if leftover and leftover.service == service:
                runtime.remove(leftover.id)
            old = runtime.find(service, Role.REPLACED)
            if old is None or old.service != service:
                continue
            if own.find(service):
                runtime.remove(old.id)
            elif runtime is own:
                runtime.assign(old.id, service, Role.CURRENT)


def _former_runtimes(system: System, service: str) -> Iterator[Runtime]:
    """Yield the runtimes of the generations that a service replaced, if they are available."""
    record = store.current(system.paths.state, service)
    for one in record.replaced if record else ():
        with suppress(RuntimeRefusedError):
            former = runtime_of(system, one)
            if one.service == service and former.available():
                yield former


def stop(system: System, runtime: Runtime, service: str, before: ServiceBefore) -> None:
    """Stop a service's unit and container. Raise StartFailedError when the container will not end."""
    grace = snapshot.stop_timeout(before)
    systemctl(system, "stop", units.unit_name(service), timeout_s=grace + 90)
    container = runtime.inspect(before.container) if before.container else None
    if container is None:
        return
    runtime.adopt(container.id)
    if container.running:
        runtime.stop(container.id, grace)
    container = runtime.inspect(container.id)
    if container and container.running:
        running = f"the running engine {service} does not end, not even after SIGKILL"
        raise StartFailedError(Diagnostic(service, running, code="engine-does-not-stop"))


def switch_over(
    system: System,
    journal: Journal,
    generation: Generation,
    candidate_id: str,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Stop the old services, wait for their memory and RDMA regions, free the names, rename the candidate.

    ``check`` is called at each step of a wait, and may raise: another rank may fail meanwhile.
    """
    state = snapshot.recorded(journal)
    for service, before in state.items():
        if before.container or before.active:
            journal.log("note", f"{service} stops", phase="stop")
            stop(system, runtime_of(system, before.current, generation), service, before)
    if generation.rank or any(before.current and before.current.rank for before in state.values()):
        ended = {before.container for before in state.values() if before.container}
        rdma.wait_for_release(system, ended, lambda text: journal.log("note", text, phase="rdma"), check)
    stopped = any(before.running for before in state.values())
    last_sample = memory.wait_until_freed(system, generation.need_mib, check) if stopped else system.memory()
    journal.log("note", f"{last_sample.available} MiB available", phase="memory")
    if last_sample.available < generation.need_mib:
        raise StartFailedError(
            Diagnostic(
                generation.service,
                f"memory was not freed: {last_sample.available} MiB available, {generation.need_mib} needed",
                hint="another process uses memory: see `nvidia-smi` and `ps` on the Spark",
                code="memory-insufficient",
            )
        )
    for service, before in state.items():
        if before.container:
            runtime_of(system, before.current, generation).assign(before.container, service, Role.REPLACED)
    runtime_of(system, generation).assign(candidate_id, generation.service, Role.CURRENT)


def place(system: System, record: CurrentGeneration, cluster_key: str) -> None:
    """Write unit and record of the new generation; starts nothing. Raise StartFailedError."""
    snapshot.write_unit(system, record.service, record.unit)
    if cluster_key:
        store.keep_cluster_key(system.paths.state, record.service, record.rollout, cluster_key)
    # The supervisor adopts only the container that the record names: write the record before the start.
    store.set_current(system.paths.state, record.service, record)
    store.forget_stop(system.paths.state, record.service)
    systemctl(system, "reset-failed", record.unit_name)
    enabled = systemctl(system, "enable", record.unit_name)
    if enabled.code:
        refused = f"systemd could not enable {record.unit_name}: {enabled.text}"
        raise StartFailedError(Diagnostic(record.service, refused, code="unit-failed"))


def hand_over(system: System, journal: Journal, record: CurrentGeneration) -> None:
    """Let the unit adopt the serving container. Raise StartFailedError when systemd refuses."""
    container_id, runtime = record.container_id, runtime_of(system, record)
    was = runtime.inspect(container_id)
    if record.rank and was and was.running:
        ranks.record_run(system, record.service, was, record.rollout)
    started = systemctl(system, "start", record.unit_name)
    now = runtime.inspect(container_id)
    if started.code or not now or not now.running:
        why = started.text or "the engine ended"
        refused = f"systemd could not take over {record.unit_name}: {why}"
        raise StartFailedError(Diagnostic(record.service, refused, code="unit-failed"))
    if was and now.started_at != was.started_at:
        journal.log("note", f"{record.service} had ended and was started by its unit", phase="promote")


def retire(system: System, journal: Journal, record: CurrentGeneration) -> None:
    """Remove what the promoted generation replaced, and keep that generation for a rollback.

    The new one serves and is supervised: no failure after this point causes a rollback.
    """
    for service, before in snapshot.recorded(journal).items():
        try:
            if before.container and before.container != record.container_id:
                runtime_of(system, before.current, record).remove(before.container)
            if service != record.service:
                forget(system, service)
        except (RuntimeRefusedError, OSError) as error:
            journal.log(
                "note", f"leftovers of {service} stay until the next rollout: {error}", phase="promote"
            )
    store.forget_cluster_keys(system.paths.state, record.service, record.rollout)
    try:
        store.remember(system.paths.state, convert(PromotedGeneration, record))
    except OSError as error:
        journal.log("note", f"not kept for a rollback: {error}", phase="promote")


def forget(system: System, service: str) -> None:
    """Remove a service's unit and record; its generations stay for a rollback."""
    unit = units.unit_name(service)
    systemctl(system, "disable", unit)
    snapshot.write_unit(system, service, None)
    systemctl(system, "reset-failed", unit)
    store.retire(system.paths.state, service)


def revert(system: System, journal: Journal, generation: Generation) -> dict[str, Diagnostic]:
    """Restore containers, units and records from ``before.json``; starts nothing.

    Return each service that could not be restored completely, with the reason.

    Raise RuntimeUnavailableError: to be repeated when the daemon answers again.
    """
    problems = {}
    candidate = find_candidate(system, journal, generation)
    state = snapshot.recorded(journal)
    if candidate:
        for service in state:
            if snapshot.is_active(system, service):  # not one that systemd is only about to start at boot
                systemctl(system, "stop", units.unit_name(service))
        try:
            _clear(system, journal, generation, candidate)
        except RuntimeRefusedError as error:
            problems[generation.service] = not_restored(generation.service, str(error))
    for service, before in state.items():
        try:
            _restore_service(system, journal, service, before, generation)
        except (RuntimeRefusedError, OSError) as error:
            problems[service] = not_restored(service, str(error))
    return problems


def _clear(system: System, journal: Journal, generation: Generation, candidate: Instance) -> None:
    """Remove the candidate. One that the runtime refuses to remove gives its name back at least."""
    runtime = runtime_of(system, generation)
    try:
        runtime.remove(candidate.id)
    except RuntimeRefusedError as error:
        journal.log("note", f"the {runtime.noun} of the candidate stays: {error}", phase="restore")
        if candidate.name != runtime.name(generation.service, Role.CANDIDATE):
            runtime.assign(candidate.id, generation.service, Role.CANDIDATE)


def _restore_service(
    system: System, journal: Journal, service: str, before: ServiceBefore, candidate: Generation
) -> None:
    """Restore one service. Raise RuntimeRefusedError or OSError for what cannot be restored."""
    if not before.enabled:
        systemctl(system, "disable", units.unit_name(service))
    snapshot.write_unit(system, service, before.unit, before.drop_ins)
    store.set_current(system.paths.state, service, before.current)
    if before.container:
        runtime = runtime_of(system, before.current, candidate)
        _restore_container(system, runtime, journal, service, before)


def _restore_container(
    system: System, runtime: Runtime, journal: Journal, service: str, before: ServiceBefore
) -> None:
    """Give the container its name again; recreate one that is gone, from its record."""
    record = before.current
    container = runtime.inspect(before.container)
    if container:
        if container.name != runtime.name(service, Role.CURRENT):
            runtime.assign(container.id, service, Role.CURRENT)
        return
    if record is None:
        raise RuntimeRefusedError(f"its {runtime.noun} is gone, and no record says how to recreate it")
    instance = runtime.find(service)
    if instance is None:
        journal.log("note", f"the {runtime.noun} of {service} is gone: it is recreated", phase="restore")
        workload = runtime.workload(record)
        obstacle = mounts.obstacle(system, workload)
        if obstacle:
            raise RuntimeRefusedError(f"its {runtime.noun} is gone and cannot be recreated: {obstacle}")
        created = runtime.create(service, Role.CURRENT, workload)
    elif instance.service == service:  # recreated by an attempt that was interrupted
        created = instance.id
    else:
        raise RuntimeRefusedError(f"its {runtime.noun} is gone, and another one has its name")
    store.set_current(system.paths.state, service, replace(record, container=ContainerOf(created, record.id)))


def find_candidate(system: System, journal: Journal, generation: Generation) -> Instance | None:
    """Return the candidate by its recorded id, or by its first name when a kill came before the record."""
    created, runtime = journal.last("created"), runtime_of(system, generation)
    if created:
        return runtime.inspect(created.container)
    leftover = runtime.find(generation.service, Role.CANDIDATE)
    return leftover if leftover and leftover.service == generation.service else None


def discard(system: System, journal: Journal, generation: Generation) -> None:
    """Remove the candidate; nothing else has changed yet."""
    candidate = find_candidate(system, journal, generation)
    if candidate:
        runtime_of(system, generation).remove(candidate.id)
