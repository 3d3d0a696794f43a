"""Desired x Observed -> plan of one Spark. Pure; what a run does is exactly what stands here."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.config.resolved import Host, Service
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.contract.generation import Generation
from sparkfleet.engines.vllm import rules
from sparkfleet.engines.vllm.memory import Measured
from sparkfleet.errors import SparkfleetError
from sparkfleet.plan import (
    blockers,
    calibration,
    docker_install,
    host_changes,
    lint,
    records,
    resource_changes,
    service_changes,
    staging,
)
from sparkfleet.plan.cluster import render
from sparkfleet.plan.fabric import changes as fabric_changes
from sparkfleet.plan.model import Change, Entry, HostPlan, Sign, Step, Verb
from sparkfleet.plan.service_changes import Baseline
from sparkfleet.probe.command import ProbeRequest
from sparkfleet.probe.observed import ContainerSeen, Items, Observed, WithoutDocker

MIB_IN_GIB = 1024


def probe_request(host: Host) -> ProbeRequest:
    """Return what must be looked at to plan this host."""
    return ProbeRequest(
        services=tuple(service.name for service in host.services),
        images=tuple(dict.fromkeys(name for s in host.services for name in s.image.names)),
        weights=tuple(dict.fromkeys((w.repo, w.revision) for s in host.services for w in s.repositories)),
        paths=(*host_changes.watched_paths(host), *fabric_changes.watched_paths(host)),
        ports=tuple(service.port for service in host.services),
        models_dir=host.paths.models,
        cache_dir=host.paths.cache,
        items=resource_changes.request(host),
        fabric=fabric_changes.wanted_addresses(host),
        install=docker_install.may_install(host),
    )


def host_plan(host: Host, observed: Observed | Diagnostic) -> HostPlan:
    """Return the plan of one Spark: unknown when it could not be read, else every entry that differs."""
    if isinstance(observed, WithoutDocker):
        return _without_docker(host, observed)
    if isinstance(observed, Diagnostic):
        return HostPlan(host.name, unknown=observed)
    if observed.swap:
        return HostPlan(host.name, unknown=_swap_going_on(host, observed), going_on=observed.swap)
    try:
        before = docker_install.entry(host, observed, engine_there=True)
        services = [] if before else _service_entries(host, observed)
        alone = _host_entries(host, observed) if before is None else _own_entries(host, observed)
        entries = [*_docker_entries(host, observed, before), *alone, *services]
        anew = None if before else _started_anew(host, observed)
    except SparkfleetError as error:
        return HostPlan(host.name, unknown=combine(*error.diagnostics))
    stock = (one for service in host.services for one in staging.stock(service, observed))
    return HostPlan(host.name, tuple(entries), stock=tuple(dict.fromkeys(stock)), anew=anew)


def _without_docker(host: Host, seen: WithoutDocker) -> HostPlan:
    """Return the plan of a Spark whose Docker cannot be asked: unknown, unless it is to be installed."""
    rest = seen.rest
    assert rest is not None  # noqa: S101  (the probe's answer always has it)
    entry = docker_install.entry(host, rest, engine_there=False) if seen.state == "missing" else None
    if entry and not rest.swap:
        return HostPlan(host.name, (*_docker_entries(host, rest, entry), *_own_entries(host, rest)))
    toolkits = (blockers.no_toolkit(host, service, rest) for service in host.services)
    return HostPlan(host.name, unknown=combine(seen.plain, blockers.read_only(host, rest), *toolkits))


def _docker_entries(host: Host, observed: Observed, entry: Entry | None) -> list[Entry]:
    locked = blockers.read_only(host, observed)
    return [replace(entry, blocked=combine(entry.blocked, locked))] if entry else []


def _own_entries(host: Host, observed: Observed) -> list[Entry]:
    """Return what a run puts on the Spark for itself, without what is declared: that may need Docker."""
    bare = replace(host, prepare=replace(host.prepare, items=()))
    return _host_entries(bare, replace(observed, items=Items(), recorded=()))


def _swap_going_on(host: Host, observed: Observed) -> Diagnostic:
    return Diagnostic(
        host.name,
        f"a change is still going on there (swap {observed.swap})",
        "a Spark at rest",
        "run without --dry: it follows the change to its end first; or wait, and plan again",
    )


def _host_entries(host: Host, observed: Observed) -> list[Entry]:
    found = (host_changes.host_entry(host, observed), fabric_changes.fabric_entry(host, observed))
    read_only = blockers.read_only(host, observed)
    return [replace(entry, blocked=combine(read_only, entry.blocked)) for entry in found if entry]


def _service_entries(host: Host, observed: Observed) -> list[Entry]:
    declared = {service.name for service in host.services}
    orphans = sorted(_services_there(observed) - declared)
    entries: list[Entry] = []
    for service in host.services:
        entry = _service_entry(host, service, observed, tuple(orphans))
        if entry is None:
            continue
        if set(orphans) <= set(entry.replaces):
            orphans = []
        entries.append(entry)
    removals = [_removal(name, observed) for name in orphans]
    return [*removals, *entries]


def _services_there(observed: Observed) -> set[str]:
    units = {name.removeprefix("sparkfleet-").removesuffix(".service") for name in observed.units}
    return (set(observed.owned()) | units) - {
        host_changes.RECOVER_UNIT[len("sparkfleet-") : -len(".service")]
    }


def _started_anew(host: Host, observed: Observed) -> Entry | None:
    """Return what is done to this rank when another one of its cluster changes; None: it is in none."""
    orphans = tuple(sorted(_services_there(observed) - {service.name for service in host.services}))
    shared = (service for service in host.services if render.member_of(host, service))
    return next((_service_entry(host, one, observed, orphans, anew=True) for one in shared), None)


def _removal(name: str, observed: Observed) -> Entry:
    container = observed.container(name)
    changes = []
    if container is not None:
        image = service_changes.image_name(str(container.config.get("Image") or ""))
        changes.append(Change(Step.SERVICE, Sign.REMOVE, "container", old=name, note=image))
    if f"sparkfleet-{name}.service" in observed.units:
        changes.append(Change(Step.SERVICE, Sign.REMOVE, "unit", old=f"sparkfleet-{name}.service"))
    return Entry(
        name, Verb.REMOVE, tuple(changes), title=name, replaces=(name,), expect=_expected((name,), observed)
    )


def _expected(names: tuple[str, ...], observed: Observed) -> tuple[tuple[str, str], ...]:
    seen = {name: observed.container(name) for name in names}
    return tuple((name, container.id if container else "") for name, container in seen.items())


def _entrypoint(service: Service, observed: Observed) -> tuple[str, ...]:
    here = observed.images.get(service.image.pull_ref)
    return here.entrypoint if here else service.image.entrypoint


def _baseline(container: ContainerSeen | None, observed: Observed) -> Baseline | None:
    if container is None:
        return None
    image = observed.images.get(container.image_id)
    return Baseline(container, image, observed.generations.get(container.service, {}))


def _service_entry(
    host: Host, service: Service, observed: Observed, orphans: tuple[str, ...], *, anew: bool = False
) -> Entry | None:
    """Return what differs of a service, None when nothing does. ``anew``: its container is replaced at any
    rate.
    """
    member = render.member_of(host, service)
    own_service, generation = wanted(host, service, observed)
    if own_service is not service:  # this rank's: it is the Spark's own from here on
        own_services = tuple(own_service if one is service else one for one in host.services)
        host, service = replace(host, services=own_services), own_service
    own = observed.owned().get(service.name)
    diagnostic = blockers.in_the_way(host, service, observed)
    staged = [*staging.image_changes(service, observed), *staging.weight_changes(service, observed)]
    kept = observed.generations.get(service.name, {})
    if anew or own is None or not own.running or _needs_another(host, service, generation, observed):
        entry = _swap_entry(host, service, generation, observed, orphans)
        if not entry.steps(Step.SERVICE):
            entry = replace(entry, changes=(*entry.changes, _ANEW))
        if member is not None:
            diagnostic = combine(diagnostic, render.obstacles(host, member, observed.fabric))
        total_gib = observed.memory_total_mib / MIB_IN_GIB
        measured = calibration.measured(service, kept, total_gib)
        said = lint.advice(service, host, total_gib=total_gib, measured=measured)
        if _NEW_TO_THE_ENGINE & {change.field for change in entry.changes}:
            diagnostic = combine(diagnostic, lint.refusal(service, said))
        diagnostic = combine(diagnostic, blockers.no_toolkit(host, service, observed))
        changes = [*entry.changes, *staged, *_memory(service, host, total_gib, measured), *_warnings(said)]
    else:
        unit = service_changes.unit_changes(generation, observed.units.get(generation.unit_name), own.running)
        live = [*unit, *service_changes.gate_changes(generation.gate, kept), *records.lost(generation, kept)]
        changes = [*live, *staged]
        if not changes:
            return None
        generation = records.live_generation(generation, kept)
        entry = Entry(service.name, Verb.UPDATE if live else Verb.STAGE, (), title=service.name)
    return replace(
        entry,
        changes=tuple(sorted(changes, key=_rank)),
        service=service,
        generation=generation,
        cluster=member.cluster if member else "",
        expect=_expected((service.name, *entry.replaces), observed),
        blocked=combine(
            diagnostic, blockers.read_only(host, observed), staging.disk_diagnostic(host, service, observed)
        ),
    )


def wanted(host: Host, service: Service, observed: Observed) -> tuple[Service, Generation]:
    """Return service and generation as this Spark shall run them: of a cluster's, its rank."""
    return render.generation(host, service, observed.user, _entrypoint(service, observed), observed.fabric)


_ANEW = Change(Step.SERVICE, Sign.CHANGE, "state", old="serving", new="started anew with the other ranks")

_NEW_TO_THE_ENGINE = frozenset({"image", "model", "flag", "env"})
"""Fields that an engine has not yet started with: what is known to fail is refused. A service that ran this
way is brought back without such questions."""


def _memory(service: Service, host: Host, total_gib: float, measured: Measured | None) -> list[Change]:
    estimate = rules.estimate(service, host, total_gib=total_gib, measured=measured)
    return [Change(Step.SERVICE, Sign.NOTE, "memory", new=estimate.text())] if estimate else []


def _warnings(said: tuple[lint.Advice, ...]) -> list[Change]:
    return [
        Change(Step.SERVICE, Sign.NOTE, "warning", new=one.text, note=one.remedy)
        for one in said
        if one.level == "warning"
    ]


_ORDER = ("state", "name", "image", "pull", "model", "weights", "served name", "port", "flag", "env")
_RANK = {field: rank for rank, field in enumerate(_ORDER)}
"""People look for image, model and flags first; fields that are not named here follow as they come."""


def _rank(change: Change) -> int:
    return _RANK.get(change.field, len(_RANK)) + (change.sign is Sign.NOTE)


def _needs_another(host: Host, service: Service, wanted: Generation, observed: Observed) -> bool:
    """Tell whether the running container of a service must be replaced by a new one."""
    own = observed.owned()[service.name]
    kept = observed.generations.get(service.name, {})
    base = _baseline(own, observed)
    return bool(
        records.made_by_hand(own, wanted, kept)
        or service_changes.rank_changes(wanted.rank, kept)
        or service_changes.make_changes(wanted.rank, kept)
        or service_changes.container_changes(host, service, wanted, observed, base)
    )


def _swap_entry(
    host: Host,
    service: Service,
    wanted: Generation,
    observed: Observed,
    orphans: tuple[str, ...],
) -> Entry:
    own = observed.owned().get(service.name)
    base = own or _predecessor(service, orphans, observed)
    changes = service_changes.container_changes(host, service, wanted, observed, _baseline(base, observed))
    if own is not None and not own.running:
        changes.insert(0, Change(Step.SERVICE, Sign.CHANGE, "state", old=own.state, new="serving"))
    elif own is not None:
        changes += records.made_by_hand(own, wanted, observed.generations.get(service.name, {}))
    elif base is not None:
        changes.insert(0, Change(Step.SERVICE, Sign.CHANGE, "name", old=base.name, new=service.name))
    kept = observed.generations.get(base.service if base else service.name, {})
    unit = observed.units.get(wanted.unit_name)
    if unit is not None:  # the swap writes the unit anew, whatever was done to it
        changes += service_changes.unit_changes(wanted, unit, running=False)
    if own is not None:
        changes += service_changes.rank_changes(wanted.rank, kept)
        changes += [] if changes else service_changes.make_changes(wanted.rank, kept)
    changes += service_changes.gate_changes(wanted.gate, kept)
    others = (name for name in orphans if base is None or name != base.name)
    changes += [change for name in others for change in _removal(name, observed).changes]
    replaces = (*((service.name,) if own else ()), *orphans)
    title = f"{' + '.join(orphans)} → {service.name}" if orphans else service.name
    passed = kept.get("gate_result", {})
    measured = passed.get("ready_s", 0) + passed.get("first_s", 0)
    return Entry(
        service.name,
        Verb.RECREATE if base else Verb.CREATE,
        tuple(changes),
        title=title,
        replaces=replaces,
        downtime_s=round(measured) if measured and base else None,
    )


def _predecessor(service: Service, orphans: tuple[str, ...], observed: Observed) -> ContainerSeen | None:
    """Return which undeclared service this one most likely was before: that of its port, else the first."""
    there = [container for name in orphans if (container := observed.container(name))]
    on_port = [c for c in there if observed.generations.get(c.service, {}).get("port") == service.port]
    return next(iter((*on_port, *there)), None)
