"""Desired x Observed -> plan of one Spark. Pure; a run executes exactly this plan."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from sparkfleet import engines, runtimes
from sparkfleet.contract.diagnostic import Diagnostic, Severity, SparkfleetError, combine
from sparkfleet.contract.generation import CurrentGeneration, GateResult, Generation
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.desired_state import Host, Service
from sparkfleet.plan import (
    blockers,
    calibration,
    docker_install,
    host_changes,
    kernel,
    lint,
    port_order,
    records,
    resource_changes,
    service_changes,
    staging,
    state_files,
    waiting,
)
from sparkfleet.plan.address import service_url
from sparkfleet.plan.cluster import render
from sparkfleet.plan.fabric import changes as fabric_changes
from sparkfleet.plan.model import (
    Action,
    ChangeSet,
    FieldChange,
    HostPlan,
    Note,
    Operation,
    ServiceStop,
    Step,
    warning,
)
from sparkfleet.plan.operations import (
    CreateService,
    RemoveService,
    ReplaceService,
    RolloutOperation,
    UpdateService,
)
from sparkfleet.plan.service_changes import Baseline
from sparkfleet.probe.observation import Observed, ObservedResources, WithoutRuntime, role_of
from sparkfleet.runtimes.base import Role
from sparkfleet.runtimes.observation import ObservedInstance
from sparkfleet.units import MIB_IN_GIB, moment


def probe_request(host: Host) -> ProbeRequest:
    """Return what the probe must observe to plan this host."""
    devices = dict.fromkeys(one for service in host.services for one in blockers.devices(service))
    mounts = dict.fromkeys(one.source for service in host.services for one in service.container.mounts)
    return ProbeRequest(
        services=tuple(service.name for service in host.services),
        images=tuple(dict.fromkeys(name for s in host.services for name in s.image_names)),
        weights=tuple(dict.fromkeys((w.repo, w.revision) for s in host.services for w in s.repositories)),
        paths=(*host_changes.watched_paths(host), *fabric_changes.watched_paths(host), *devices, *mounts),
        ports=tuple(
            port for one in host.services for port in (one.port, *blockers.coordination_ports(host, one))
        ),
        models_dir=host.paths.models,
        cache_dir=host.paths.cache,
        resources=resource_changes.to_observe(host),
        fabric=fabric_changes.desired_addresses(host),
        install=docker_install.may_install(host),
        runtimes=_declared_runtimes(host),
    )


def _declared_runtimes(host: Host) -> tuple[str, ...]:
    declared = {service.runtime for service in host.services}
    declared |= {docker_install.ENGINE} & {*docker_install.may_install(host)}
    return tuple(sorted(declared)) or (runtimes.DEFAULT,)


def host_plan(host: Host, observed: Observed | Diagnostic) -> HostPlan:
    """Return the plan of one host: unknown when it could not be read, else a change set for each subject."""
    seen = observed.rest if isinstance(observed, WithoutRuntime) else observed
    machine = seen.machine if isinstance(seen, Observed) else None
    return replace(_host_plan(host, observed), machine=machine)


def _host_plan(host: Host, observed: Observed | Diagnostic) -> HostPlan:
    if isinstance(observed, WithoutRuntime):
        return _without_runtime(host, observed)
    if isinstance(observed, Diagnostic):
        return HostPlan(host.name, unknown=observed)
    if observed.rollout:
        return HostPlan(
            host.name, unknown=rollout_in_progress(host, observed), rollout_in_progress=observed.rollout
        )
    try:
        docker = docker_install.change_set(host, observed, engine_there=True)
        if docker is not None:
            sets = [*_docker(host, observed, docker), *_without_resources(host, observed)]
            recreate = None
        else:
            sets = [*_host(host, observed), *_services(host, observed)]
            recreate = _recreated(host, observed)
    except SparkfleetError as error:
        return HostPlan(host.name, unknown=error.diagnostic)
    artifacts = (one for service in host.services for one in staging.artifacts(service, observed))
    return HostPlan(
        host.name,
        tuple(sets),
        artifacts=tuple(dict.fromkeys(artifacts)),
        recreate=recreate,
        warnings=state_files.warnings(observed, sets),
        stops=tuple(_stop(host, one, observed) for one in host.services if observed.is_stopped(one.name)),
    )


def _without_runtime(host: Host, seen: WithoutRuntime) -> HostPlan:
    """Return the plan of a host where a runtime does not answer: unknown, unless it is to be installed."""
    rest = seen.rest
    assert rest is not None  # noqa: S101  (the probe's response always has it)
    installable = (seen.runtime, seen.state) == (docker_install.ENGINE, "missing")
    docker = docker_install.change_set(host, rest, engine_there=False) if installable else None
    if docker and not rest.rollout:
        return HostPlan(host.name, (*_docker(host, rest, docker), *_without_resources(host, rest)))
    toolkits = (blockers.no_toolkit(host, service, rest) for service in host.services)
    return HostPlan(host.name, unknown=combine(seen.plain, blockers.read_only(host, rest), *toolkits))


def _docker(host: Host, observed: Observed, change_set: ChangeSet) -> list[ChangeSet]:
    locked = blockers.read_only(host, observed)
    return [replace(change_set, blocked=combine(change_set.blocked, locked))]


def _without_resources(host: Host, observed: Observed) -> list[ChangeSet]:
    """Return the changes of the host without declared resources, which may need Docker."""
    bare = replace(host, prepare=replace(host.prepare, resources=()))
    return _host(bare, replace(observed, resources=ObservedResources(), recorded=()))


def rollout_in_progress(host: Host, observed: Observed) -> Diagnostic:
    """Return that a host cannot be planned while a rollout changes it."""
    return Diagnostic(
        host.name,
        f"a rollout is in progress ({observed.rollout})",
        "no rollout in progress",
        "run without --dry: it follows the rollout to its end first; or wait, and plan again",
        code="rollout-in-progress",
    )


def _host(host: Host, observed: Observed) -> list[ChangeSet]:
    found = (
        host_changes.host_change_set(host, observed),
        fabric_changes.fabric_change_set(host, observed),
    )
    read_only = blockers.read_only(host, observed)
    return [replace(one, blocked=combine(read_only, one.blocked)) for one in found if one]


def _services(host: Host, observed: Observed) -> list[ChangeSet]:
    declared = {service.name for service in host.services}
    orphans = sorted(services_present(observed) - declared)
    changed: list[ChangeSet] = []
    for service in host.services:
        if observed.is_stopped(service.name):
            continue
        one = _service(host, service, observed, tuple(orphans))
        if one is None:
            continue
        replaced = {name for op in one.operations if isinstance(op, RolloutOperation) for name in op.replaces}
        if set(orphans) <= replaced:
            orphans = []
        changed.append(one)
    removed = [_removal(host, name, observed) for name in orphans]
    ordered = port_order.order(host, [*removed, *changed], observed)
    found = [state_files.blocked(one, observed) for one in ordered]
    return waiting.with_dependencies(host, found, observed)


def services_present(observed: Observed) -> set[str]:
    """Return the services that are on a host, declared or not."""
    units = observed.units.keys() - {host_changes.RECOVER_UNIT}
    return set(observed.owned()) | {name[len("sparkfleet-") : -len(".service")] for name in units}


def _recreated(host: Host, observed: Observed) -> ChangeSet | None:
    """Return the change of this rank if another rank of its cluster changes; None outside of clusters."""
    orphans = tuple(sorted(services_present(observed) - {service.name for service in host.services}))
    shared = (service for service in host.services if render.member_of(host, service))
    return next((_service(host, one, observed, orphans, recreate=True) for one in shared), None)


def _removal(host: Host, name: str, observed: Observed) -> ChangeSet:
    changes = _removed_fields(name, observed)
    operation = RemoveService(name, changes=changes, replaces=(name,), expect=expected((name,), observed))
    blocked = blockers.not_managed(host, (name,), observed)
    return ChangeSet(name, (operation,), title=name, blocked=blocked)


def _removed_fields(name: str, observed: Observed) -> tuple[FieldChange, ...]:
    instance = observed.owned().get(name)
    changes = []
    if instance is not None:
        image = service_changes.image_name(instance.image)
        changes.append(FieldChange(Action.REMOVE, _noun(instance), old=name, note=image))
    if f"sparkfleet-{name}.service" in observed.units:
        changes.append(FieldChange(Action.REMOVE, "unit", old=f"sparkfleet-{name}.service"))
    return tuple(changes)


def _noun(instance: ObservedInstance) -> str:
    return runtimes.get(instance.runtime).noun


def expected(names: tuple[str, ...], observed: Observed) -> tuple[tuple[str, str], ...]:
    """Return the container of each service, as a rollout must find it."""
    own = observed.owned()
    return tuple((name, own[name].id if name in own else "") for name in names)


def _entrypoint(service: Service, observed: Observed) -> tuple[str, ...]:
    if service.image is None:
        return ()
    present = observed.images.get(service.image.pull_ref)
    return present.entrypoint if present else service.image.entrypoint


def _baseline(container: ObservedInstance | None, observed: Observed) -> Baseline | None:
    if container is None:
        return None
    image = observed.images.get(container.artifact)
    return Baseline(container, image, observed.generations.get(container.service))


def _service(
    host: Host, service: Service, observed: Observed, orphans: tuple[str, ...], *, recreate: bool = False
) -> ChangeSet | None:
    """Return the changes of a service, None without any. ``recreate``: replace it in any case."""
    member = render.member_of(host, service)
    host, service, generation = _as_rank(host, service, observed)
    own = observed.owned().get(service.name)
    fetched, notes = staging.operations(service, observed), staging.notes(service, observed)
    unreadable = observed.unreadable_record(service.name)
    if unreadable:
        cluster = member.cluster if member else ""
        return state_files.unknown_service(service.name, tuple(fetched), unreadable, cluster)
    record = observed.generations.get(service.name)
    obstacles = [
        blockers.port_owners(host, service, observed),
        blockers.read_only(host, observed),
        blockers.broken_links(host, observed),
    ]
    operations: tuple[Operation, ...]
    rollout = (
        recreate or own is None or not own.running or _needs_another(host, service, generation, observed)
    )
    if rollout:
        operation, title, new_input = _rollout(host, service, generation, observed, orphans)
        operations = (*fetched, operation)
        total_gib = observed.memory_total_mib / MIB_IN_GIB
        measured = calibration.measured(service, record, total_gib)
        findings = lint.findings(service, host, total_gib=total_gib, measured=measured)
        notes += [
            *(_address(host, service) if isinstance(operation, CreateService) else ()),
            *_memory(service, host, total_gib, measured),
            *_warnings(service, findings),
            *kernel.warnings(host, service, observed.machine),
            *(Note(Step.SERVICE, "limitation", text=sentence) for sentence in service.limitations),
        ]
        obstacles += [
            render.obstacles(host, member, observed.fabric) if member else None,
            lint.first_error(service, findings) if new_input else None,  # never for a running service
            kernel.obstacles(host, service, observed.machine),
            blockers.no_toolkit(host, service, observed),
            blockers.not_managed(host, dict.fromkeys((service.name, *operation.replaces)), observed),
            blockers.missing_devices(host, service, observed),
            blockers.missing_mounts(host, service, observed),
            blockers.memory(host, service.name, generation.need_mib, observed),
        ]
    else:
        title, update = service.name, _update(generation, observed, record)
        operations = (*fetched, *update)
        if not operations:
            return None
        obstacles += [blockers.not_managed_unit(host, service.name, observed)] if update else []
    obstacles.append(staging.disk_diagnostic(host, service, observed, rollout=rollout))
    cluster = member.cluster if member else ""
    return ChangeSet(service.name, operations, title, tuple(notes), combine(*obstacles), cluster)


def _as_rank(host: Host, service: Service, observed: Observed) -> tuple[Host, Service, Generation]:
    """Return host, service and generation; a rank of a cluster is planned like a service of the host."""
    own_service, generation = desired_generation(host, service, observed)
    if own_service is not service:
        own_services = tuple(own_service if one is service else one for one in host.services)
        host = replace(host, services=own_services)
    return host, own_service, generation


def _stop(host: Host, service: Service, observed: Observed) -> ServiceStop:
    """Return that a service was stopped, and what a run would change of it."""
    record, member = observed.stops[service.name], render.member_of(host, service)
    host, service, desired = _as_rank(host, service, observed)
    own, current = observed.owned().get(service.name), observed.generations.get(service.name)
    changes: tuple[FieldChange, ...] = ()
    if own is not None:
        base = _baseline(own, observed)
        changes = (
            *service_changes.container_changes(host, service, desired, observed, base).all,
            *service_changes.rank_changes(desired.rank, current),
            *service_changes.gate_changes(desired.gate, current),
        )
    differs = tuple(dict.fromkeys(one.name for one in changes))
    cluster = member.cluster if member else ""
    return ServiceStop(service.name, record.operator, record.at, record.reason, cluster, differs)


def _update(desired: Generation, observed: Observed, record: CurrentGeneration | None) -> list[UpdateService]:
    """Return the change of a running service that keeps its container; nothing without one."""
    changes = (
        *service_changes.unit_changes(desired, observed.units.get(desired.unit_name), running=True),
        *service_changes.gate_changes(desired.gate, record),
        *records.missing_record(desired, record),
        *_ended_stop(desired.service, observed),
    )
    live = records.live_generation(desired, record)
    return [UpdateService(desired.service, live, changes=changes)] if changes else []


def _ended_stop(service: str, observed: Observed) -> list[FieldChange]:
    """Return the removal of the record that a service is stopped: it runs, started by hand."""
    record = observed.stops.get(service)
    if record is None:
        return []
    note = "it was started by hand"
    return [FieldChange(Action.REMOVE, "stop", old=f"by {record.operator} {moment(record.at)}", note=note)]


def desired_generation(host: Host, service: Service, observed: Observed) -> tuple[Service, Generation]:
    """Return the desired service and generation of this Spark; of a cluster's service, its rank."""
    return render.generation(host, service, observed.user, _entrypoint(service, observed), observed.fabric)


_RESTARTED = FieldChange(Action.CHANGE, "state", old="running", new="restarted with the other ranks")


def _memory(service: Service, host: Host, total_gib: float, measured: object) -> list[Note]:
    engine = engines.get(service.engine)
    estimate = engine.memory_estimate(service, host, total_gib=total_gib, measured=measured)
    return [Note(Step.SERVICE, "memory", text=estimate, of_this_host=True)] if estimate else []


def _address(host: Host, service: Service) -> list[Note]:
    """Return where a first service answers, and who can reach it."""
    url = service_url(host, service)
    has_key = "api-key-file" in dict(service.flags)
    who = "callers with the API key" if has_key else "anyone who can reach this address: no API key"
    return [Note(Step.SERVICE, "address", text=url, remark=who, of_this_host=True)] if url else []


def _warnings(service: Service, findings: tuple[Diagnostic, ...]) -> list[Note]:
    warnings = (one for one in findings if one.severity is Severity.WARNING)
    return [warning(Step.SERVICE, "warning", lint.at_service(one, service)) for one in warnings]


def _needs_another(host: Host, service: Service, desired: Generation, observed: Observed) -> bool:
    """Return whether the running container of a service must be replaced."""
    own = observed.owned()[service.name]
    record = observed.generations.get(service.name)
    base = _baseline(own, observed)
    return bool(
        records.promotion_change(own, desired, record)
        or service_changes.rank_changes(desired.rank, record)
        or service_changes.fingerprint_changes(desired.rank, record)
        or service_changes.container_changes(host, service, desired, observed, base).all
    )


def _rollout(
    host: Host,
    service: Service,
    desired: Generation,
    observed: Observed,
    orphans: tuple[str, ...],
) -> tuple[CreateService | ReplaceService, str, bool]:
    """Return the rollout of a service, its title, and whether the engine's input is new."""
    own = observed.owned().get(service.name)
    base = own or _predecessor(service, orphans, observed)
    container = service_changes.container_changes(host, service, desired, observed, _baseline(base, observed))
    changes = [*container.all, *container.deferred]
    if own is not None and not own.running:
        changes.insert(0, FieldChange(Action.CHANGE, "state", old=own.state, new="serving"))
    elif own is not None:
        changes += records.promotion_change(own, desired, observed.generations.get(service.name))
    elif base is not None:
        changes.insert(0, FieldChange(Action.CHANGE, "name", old=base.name, new=service.name))
    record = observed.generations.get(base.service if base else service.name)
    unit = observed.units.get(desired.unit_name)
    if unit is not None:  # the rollout rewrites the unit
        changes += service_changes.unit_changes(desired, unit, running=False)
    if own is not None:
        changes += service_changes.rank_changes(desired.rank, record)
        changes += [] if changes else service_changes.fingerprint_changes(desired.rank, record)
    changes += service_changes.gate_changes(desired.gate, record)
    further = (name for name in orphans if base is None or name != base.name)
    changes += [change for name in further for change in _removed_fields(name, observed)]
    replaces = (*((service.name,) if own else ()), *orphans)
    changes += _leftovers(dict.fromkeys((service.name, *replaces)), observed)
    passed = record.gate_result if record else GateResult()
    measured = passed.ready_s + passed.first_s
    operation = (ReplaceService if base else CreateService)(
        service.name,
        changes=tuple(changes) or (_RESTARTED,),
        generation=desired,
        replaces=replaces,
        expect=expected((service.name, *replaces), observed),
        downtime=round(measured) if measured and base else None,
    )
    title = f"{' + '.join(orphans)} → {service.name}" if orphans else service.name
    return operation, title, bool(container.engine)


def _leftovers(services: Iterable[str], observed: Observed) -> list[FieldChange]:
    """Return the instances that an earlier rollout left, which this rollout removes."""
    return [
        FieldChange(Action.REMOVE, _noun(one), old=one.name, note=f"{one.state}, left by an earlier rollout")
        for service, role in itertools.product(services, (Role.CANDIDATE, Role.REPLACED))
        for one in observed.instances
        if one.service == service and role_of(one) is role
    ]


def _predecessor(service: Service, orphans: tuple[str, ...], observed: Observed) -> ObservedInstance | None:
    """Return the undeclared service that this one replaces: the one on its port, else the first."""
    own = observed.owned()
    containers = [own[name] for name in orphans if name in own]
    on_port = [c for c in containers if observed.port_of(c.service) == service.port]
    return next(iter((*on_port, *containers)), None)
