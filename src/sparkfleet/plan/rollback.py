"""The plan of a rollback: from what a Spark serves to a generation that it keeps. Pure.

What a rollback starts is the recorded definition of that generation, so it needs none of the fleet's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.contract.generation import CurrentGeneration, Generation, PromotedGeneration, convert
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.desired_state import Host
from sparkfleet.plan import blockers, host_changes, service_changes, state_files
from sparkfleet.plan.compute import probe_request, rollout_in_progress
from sparkfleet.plan.model import Action, ChangeSet, FieldChange, HostPlan, ServiceStop
from sparkfleet.plan.operations import CreateService, ReplaceService
from sparkfleet.probe.observation import Observed, WithoutRuntime

UNAVAILABLE = "rollback-unavailable"
GENERATION = "rollback_to"
"""pyinfra data: ``--data rollback_to=GENERATION``."""


@dataclass(frozen=True)
class KeptService:
    """The generations of a service that a Spark keeps."""

    name: str
    current: CurrentGeneration | None = None
    """None: it does not serve."""
    generations: tuple[PromotedGeneration, ...] = ()
    """Oldest first."""

    @property
    def known(self) -> tuple[PromotedGeneration, ...]:
        """Return every generation that a rollback can start, the newest one last, each once."""
        replaced = self.current.replaced if self.current else ()
        return tuple({one.id: one for one in (*self.generations, *replaced)}.values())

    @property
    def previous(self) -> tuple[PromotedGeneration, ...]:
        """Return what the current generation replaced, else the newest other one."""
        own = self.current.id if self.current else ""
        replaced = [one for one in self.current.replaced if one.id != own] if self.current else []
        return tuple(replaced) or tuple(one for one in self.generations if one.id != own)[-1:]


@dataclass(frozen=True)
class Selection:
    """What is requested: a service ("" for all), and a generation ("" for the previous one)."""

    service: str = ""
    to: str = ""
    """Beginning of a generation's id, or id of the rollout that promoted it."""


def target(host: str, stored: KeptService, selection: Selection) -> PromotedGeneration | Diagnostic | None:
    """Return the generation to roll back to; None where there is none and the service was not named."""
    where = f"{host}: {stored.name}"
    if selection.to:
        return _named(where, stored, selection.to)
    previous = stored.previous
    if len(previous) == 1:
        return previous[0]
    if previous:
        names = ", ".join(f"{one.service} {one.id}" for one in previous)
        hint = f"--to {previous[0].id}, then start the others from the host file"
        return Diagnostic(
            where, f"it replaced several services: {names}", "one of them", hint, code=UNAVAILABLE
        )
    if not selection.service:
        return None
    message = "it is the first generation here" if stored.current else "no generation of it is kept here"
    hint = "sparkfleet history INVENTORY lists the generations that are kept"
    return Diagnostic(where, f"{message}: there is none to roll back to", hint=hint, code=UNAVAILABLE)


def _named(where: str, stored: KeptService, to: str) -> PromotedGeneration | Diagnostic:
    found = [one for one in stored.known if one.id.startswith(to) or one.rollout == to]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(one.id for one in stored.known) or "none is kept"
    message = f"several generations begin with {to}" if found else f"generation {to} is not kept here"
    hint = "sparkfleet history INVENTORY lists the generations that are kept"
    return Diagnostic(where, message, f"one of: {listed}", hint, code=UNAVAILABLE)


def is_meant(host: Host, only: str) -> bool:
    """Return whether a rollback of the host ``only`` is about this one, too: the members of a cluster go back
    together. "" means every host.
    """
    return not only or only in {host.name, *(host.member.hosts if host.member else ())}


def selected(
    host: str, stored: Mapping[str, KeptService], selection: Selection
) -> dict[str, PromotedGeneration | Diagnostic]:
    """Return the target of each selected service, or why there is none."""
    if selection.to and not selection.service:
        hint = f"name the service: sparkfleet rollback INVENTORY {host}/SERVICE --to {selection.to}"
        message = f"generation {selection.to} without a service"
        diagnostic = Diagnostic(host, message, "a generation is of one service", hint, code=UNAVAILABLE)
        return {name: diagnostic for name, one in stored.items() if one.current}
    if selection.service:
        chosen = [stored.get(selection.service, KeptService(selection.service))]
    else:
        chosen = [one for one in stored.values() if one.current]
    found = ((one.name, target(host, one, selection)) for one in chosen)
    return {name: one for name, one in found if one is not None}


def request(host: Host, targets: Iterable[PromotedGeneration]) -> ProbeRequest:
    """Return what the probe must observe: images and models of the targets instead of the declared ones."""
    generations = tuple(targets)
    whole = probe_request(host)
    return replace(
        whole,
        images=tuple(dict.fromkeys(_pulled(one.image) for one in generations if one.image)),
        weights=tuple(dict.fromkeys((one.model, one.revision) for one in generations)),
        ports=tuple(dict.fromkeys(one.port for one in generations)),
        resources=None,
        fabric=(),
        install=(),
        runtimes=tuple(sorted({*whole.runtimes, *(one.runtime for one in generations)})),
    )


def rollback_plan(
    host: Host,
    stored: Mapping[str, KeptService],
    targets: Mapping[str, PromotedGeneration | Diagnostic],
    observed: Observed | Diagnostic,
    *,
    named: bool = False,
) -> HostPlan:
    """Return the plan of one Spark: the programs where they differ, and a change set for each rollback.

    ``named``: a service was requested by name. Else one that was stopped on purpose stays stopped.
    """
    if isinstance(observed, WithoutRuntime):
        return HostPlan(host.name, unknown=observed.plain)
    if isinstance(observed, Diagnostic):
        return HostPlan(host.name, unknown=observed)
    if observed.rollout:
        return HostPlan(
            host.name, unknown=rollout_in_progress(host, observed), rollout_in_progress=observed.rollout
        )
    stops = tuple(_stop(name, observed) for name in targets if observed.is_stopped(name) and not named)
    stopped = {one.service for one in stops}
    found = (
        _change_set(host, stored, name, one, observed) for name, one in targets.items() if name not in stopped
    )
    sets = [state_files.blocked(one, observed) for one in found if one]
    programs = host_changes.programs_change_set(observed) if any(not one.blocked for one in sets) else None
    return HostPlan(
        host.name, (*((programs,) if programs else ()), *sets), machine=observed.machine, stops=stops
    )


def _stop(name: str, observed: Observed) -> ServiceStop:
    record, current = observed.stops[name], observed.generations.get(name)
    cluster = current.rank.cluster if current and current.rank else ""
    return ServiceStop(name, record.operator, record.at, record.reason, cluster)


def _change_set(
    host: Host,
    stored: Mapping[str, KeptService],
    name: str,
    chosen: PromotedGeneration | Diagnostic,
    observed: Observed,
) -> ChangeSet | None:
    """Return the rollback of a service; None if that generation serves already."""
    if isinstance(chosen, Diagnostic):
        return ChangeSet(name, blocked=chosen)
    own = observed.owned()
    stops = {chosen.service, name, *_successors(stored, chosen.service)} & own.keys()
    current = next(
        (stored[one].current for one in (name, *sorted(stops)) if one in stored and stored[one].current), None
    )
    if current and current.id == chosen.id and name in own and own[name].running:
        return None
    replaces = tuple(sorted(stops))
    names = tuple(dict.fromkeys((chosen.service, *replaces)))
    passed = chosen.gate_result
    operation = (ReplaceService if replaces else CreateService)(
        chosen.service,
        changes=changes(current, chosen),
        generation=convert(Generation, chosen),
        replaces=replaces,
        expect=tuple((one, own[one].id if one in own else "") for one in names),
        downtime=round(passed.ready_s + passed.first_s) if replaces else None,
    )
    blocked = combine(
        *_gone(host, chosen, observed),
        _cluster(host, current, chosen),
        blockers.read_only(host, observed),
        blockers.not_managed(host, names, observed),
        blockers.memory(host, chosen.service, chosen.need_mib, observed),
    )
    title = f"{name} → {chosen.service}" if name != chosen.service else f"{name}: roll back"
    return ChangeSet(
        chosen.service,
        (operation,),
        title,
        blocked=blocked,
        cluster=chosen.rank.cluster if chosen.rank else "",
    )


def _successors(stored: Mapping[str, KeptService], service: str) -> set[str]:
    """Return the services that replaced a service of another name."""
    return {
        one.name
        for one in stored.values()
        if one.current and any(old.service == service for old in one.current.replaced)
    }


def _gone(host: Host, chosen: PromotedGeneration, observed: Observed) -> list[Diagnostic]:
    """Return what the generation needs and the Spark has no longer."""
    found = []
    where = f"{host.name}: {chosen.service}"
    hint = "declare it in the host file, then pyinfra INVENTORY deploys/serve.py: it fetches what is missing"
    if chosen.image and observed.images.get(_pulled(chosen.image)) is None:
        name = service_changes.image_name(chosen.image)
        message = f"the image of generation {chosen.id} is not on the Spark any more: {name}"
        found.append(Diagnostic(where, message, "the image", hint, code="image-missing"))
    if not _in_models_directory(host, chosen, observed):
        return found
    files = observed.weights.get(f"{chosen.model}@{chosen.revision}", {})
    broken = sorted(name for name, (size, _) in files.items() if size < 0)
    if not files or broken:
        what = f"{len(broken)} files of the model" if broken else "the model"
        name = f"{chosen.model}@{chosen.revision[:12]}"
        message = f"{what} of generation {chosen.id} is not on the Spark any more: {name}"
        found.append(Diagnostic(where, message, "the model's files", hint, code="weights-missing"))
    return found


def _in_models_directory(host: Host, chosen: Generation, observed: Observed) -> bool:
    """Return whether the generation uses the directory of models that is declared now, which was read."""
    directory = observed.user.expand(host.paths.models)
    return any(directory in text for text in chosen.definition)


def _cluster(host: Host, current: CurrentGeneration | None, chosen: PromotedGeneration) -> Diagnostic | None:
    """Return why a rank cannot roll back with the other members of its cluster."""
    before, after = (one.rank if one else None for one in (current, chosen))
    if after is None and before is None:
        return None
    member = host.member
    if after and member and (after.cluster, after.hosts) == (member.cluster, member.hosts):
        return None
    served = f"the cluster {after.cluster} ({', '.join(after.hosts)})" if after else "this Spark alone"
    return Diagnostic(
        f"{host.name}: {chosen.service}",
        f"generation {chosen.id} was served by {served}, and the cluster file declares another one",
        "the same members as now",
        "change the cluster file, then pyinfra INVENTORY deploys/serve.py",
        code=UNAVAILABLE,
    )


def changes(before: Generation | None, after: Generation) -> tuple[FieldChange, ...]:
    """Return the fields in which the generation differs from the one that serves."""
    found = [_change("generation", "", before.id if before else "", after.id)]
    if before is None:
        return (
            *found,
            _change("image", "", "", service_changes.image_name(after.image)),
            _change("model", "", "", after.model),
        )
    pairs = [
        ("image", service_changes.image_name(before.image), service_changes.image_name(after.image)),
        ("image", service_changes.short_digest(before.image), service_changes.short_digest(after.image)),
        ("model", before.model, after.model),
        ("revision", before.revision, after.revision),
        ("runtime", before.runtime, after.runtime),
        ("served name", before.served_name, after.served_name),
        ("port", str(before.port), str(after.port)),
    ]
    found += [_change(name, "", old, new) for name, old, new in pairs if old != new]
    engine = engines.get(after.engine)
    if before.engine == after.engine:
        rows = engine.compare_args(before.argv, after.argv, after.engine_version)
        shown = {*engine.model_flags, *engine.shown_flags}
        found += [
            _change("flag", row.flag, row.old or "", row.new or "") for row in rows if row.flag not in shown
        ]
    else:
        found.append(_change("engine", "", before.engine, after.engine))
    old, new = dict(before.env), dict(after.env)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            values = (service_changes.shown(name, one.get(name)) or "" for one in (old, new))
            found.append(_change("env", name, *values))
    if len(found) == 1 and before.definition != after.definition:
        found.append(
            FieldChange(Action.CHANGE, "settings", note="of the container, or of the engine's start")
        )
    return tuple(found)


def _change(name: str, key: str, old: str, new: str) -> FieldChange:
    action = Action.ADD if not old else Action.REMOVE if not new else Action.CHANGE
    return FieldChange(action, name, key, old, new)


def _pulled(image: str) -> str:
    """Return a reference as it is pulled: without its tag if it has a digest."""
    name, at, digest = image.partition("@")
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{digest}" if at else image
