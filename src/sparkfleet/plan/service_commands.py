"""The plans of ``deploys/stop.py``, ``start.py`` and ``restart.py``: services as they are on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.contract.generation import Generation, Rank, convert
from sparkfleet.desired_state import Host
from sparkfleet.onhost.state import units
from sparkfleet.plan import blockers, compute, host_changes
from sparkfleet.plan.model import Action, ChangeSet, Command, FieldChange, HostPlan
from sparkfleet.plan.operations import RestartService, StartService, StopService
from sparkfleet.probe.observation import Observed

TARGET, REASON = "service_target", "stop_reason"
"""pyinfra data: ``--data service_target=HOST/SERVICE``, and ``--data stop_reason=TEXT``."""


@dataclass(frozen=True)
class Target:
    """The services that a command is for: of a host, one of them, or with no host all of the run."""

    host: str = ""
    service: str = ""

    @classmethod
    def of(cls, text: str) -> Target:
        """Return the target of ``HOST``, ``HOST/SERVICE`` or ""."""
        return cls(*text.partition("/")[::2])

    def __str__(self) -> str:
        """Return what ``of`` reads."""
        return f"{self.host}/{self.service}" if self.service else self.host

    def includes(self, host: str, service: str, rank: Rank | None) -> bool:
        """Return whether a service of a host is meant; of a cluster's service, all of its ranks are."""
        hosts = rank.hosts if rank else (host,)
        return (not self.host or self.host in hosts) and self.service in {"", service}


@dataclass(frozen=True)
class Request:
    """A command with its arguments."""

    command: Command
    target: Target = Target()
    reason: str = ""


def unknown_host(target: Target, hosts: Sequence[str]) -> Diagnostic | None:
    """Return an error for a target on a host that is not in the inventory: no plan would have it."""
    if str(target) in {"", *hosts} or target.host in hosts:
        return None
    return Diagnostic(
        f"--data {TARGET}={target}",
        f"the inventory has no host {target.host!r}",
        f"HOST or HOST/SERVICE, with a host of: {', '.join(hosts)}",
        "correct it, then run again",
        code="service-not-found",
    )


def command_plan(host: Host, observed: Observed, whole: HostPlan, request: Request) -> HostPlan:
    """Return what a command changes on a Spark. ``whole``: the plan of ``deploys/serve.py``."""
    if whole.unknown:
        return whole
    present = sorted(compute.services_present(observed))
    names = [name for name in present if request.target.includes(host.name, name, _rank(name, observed))]
    sets = [one for name in names if (one := _change_set(host, name, observed, request))]
    if request.target.service and request.target.host == host.name and not names:
        sets.append(_not_found(host, request.target.service, present))
    programs = host_changes.programs_change_set(observed) if any(not one.blocked for one in sets) else None
    ranks = (name for name in names if _rank(name, observed))
    recreate = next((_start(host, name, observed) for name in ranks), None)
    return HostPlan(
        host.name,
        tuple(one for one in (programs, *sets) if one),
        machine=observed.machine,
        recreate=recreate if request.command is not Command.STOP else None,
        stops=whole.stops if request.command is Command.STOP else (),
    )


def _rank(name: str, observed: Observed) -> Rank | None:
    record = observed.generations.get(name)
    return record.rank if record else None


def _change_set(host: Host, name: str, observed: Observed, request: Request) -> ChangeSet | None:
    if request.command is Command.STOP:
        return _stop(host, name, observed, request.reason)
    if request.command is Command.START and observed.runs(name):
        return None
    return _start(host, name, observed)


def _stop(host: Host, name: str, observed: Observed, reason: str) -> ChangeSet | None:
    if observed.is_stopped(name):
        return None
    record, rank = observed.generations.get(name), _rank(name, observed)
    instance = observed.owned().get(name)
    changes = [*_unit(name, observed, "disabled")]
    if instance is not None:
        changes.insert(0, FieldChange(Action.CHANGE, "state", old=instance.state, new="stopped", note=reason))
    operation = StopService(
        name,
        changes=tuple(changes),
        reason=reason,
        rank=rank,
        stop_timeout_s=record.stop_timeout_s if record else StopService.stop_timeout_s,
    )
    blocked = combine(*_obstacles(host, name, observed))
    return ChangeSet(name, (operation,), title=name, blocked=blocked, cluster=rank.cluster if rank else "")


def _start(host: Host, name: str, observed: Observed) -> ChangeSet:
    """Return the start of the recorded generation; of a service that runs, its restart."""
    obstacles = list(_obstacles(host, name, observed))
    record, instance = observed.generations.get(name), observed.owned().get(name)
    if record is None:
        obstacles.append(_no_record(host, name))
        return ChangeSet(name, title=name, blocked=combine(*obstacles))
    running = instance is not None and instance.running
    measured = record.gate_result.ready_s + record.gate_result.first_s
    state = instance.state if instance else "absent"
    changes = (
        FieldChange(Action.CHANGE, "state", old=state, new="restarted" if running else "serving"),
        *_unit(name, observed, "enabled"),
    )
    operation = (RestartService if running else StartService)(
        name,
        changes=changes,
        generation=convert(Generation, record),
        replaces=(name,) if instance else (),
        expect=compute.expected((name,), observed),
        downtime=round(measured) if measured and running else None,
    )
    obstacles += [
        blockers.memory(host, name, record.need_mib, observed),
        blockers.port_owner(host, record.port, observed, "then start it again"),
    ]
    cluster = record.rank.cluster if record.rank else ""
    return ChangeSet(name, (operation,), title=name, blocked=combine(*obstacles), cluster=cluster)


def _unit(name: str, observed: Observed, new: str) -> Iterator[FieldChange]:
    unit = observed.units.get(units.unit_name(name))
    if unit is not None and unit.enabled != new:
        yield FieldChange(Action.CHANGE, "unit", units.unit_name(name), unit.enabled or "disabled", new)


def _obstacles(host: Host, name: str, observed: Observed) -> Iterator[Diagnostic | None]:
    yield blockers.not_managed(host, (name,), observed)
    yield blockers.read_only(host, observed)
    yield observed.unreadable_record(name)


def _not_found(host: Host, name: str, present: list[str]) -> ChangeSet:
    diagnostic = Diagnostic(
        f"{host.name}: {name}",
        "there is no such service on this host",
        f"one of: {', '.join(present)}" if present else "a service that was rolled out there",
        "sparkfleet status INVENTORY lists the services of every host",
        code="service-not-found",
    )
    return ChangeSet(name, title=name, blocked=diagnostic)


def _no_record(host: Host, name: str) -> Diagnostic:
    return Diagnostic(
        f"{host.name}: {name}",
        "there is no record of a generation that passed its readiness gate here",
        "a service that served on this host",
        "sparkfleet apply INVENTORY rolls out what is declared",
        code="service-not-found",
    )
