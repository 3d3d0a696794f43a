"""What waits for a blocked change on the same host; all other changes go on. Pure.

A plan names for each change of a service which other services' changes it depends on. Those of the host
itself come before every service.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Host
from sparkfleet.plan.model import ChangeSet, Dependency, HostPlan, Scope
from sparkfleet.plan.operations import RolloutOperation
from sparkfleet.probe.observation import Observed
from sparkfleet.units import MIB_IN_GIB


def with_dependencies(host: Host, change_sets: Sequence[ChangeSet], observed: Observed) -> list[ChangeSet]:
    """Return the changes of a host's services, each with the changes that it depends on."""
    return [
        replace(one, depends_on=tuple(_dependencies(host, one, change_sets, observed))) for one in change_sets
    ]


def _dependencies(
    host: Host, change_set: ChangeSet, change_sets: Sequence[ChangeSet], observed: Observed
) -> Iterator[Dependency]:
    own = rollout(change_set)
    if own is None or own.generation is None:
        return
    lacking = _lacking_gib(host, own, observed)
    for other in change_sets:
        stopped = () if other is change_set else running(other, observed)
        if any(has_port(name, own.generation.port, observed) for name in stopped):
            yield Dependency(other.subject, f"it frees port {own.generation.port}")
        elif stopped and lacking > 0:
            yield Dependency(other.subject, f"it frees memory ({lacking:.1f} GiB are missing)")


def rollout(change_set: ChangeSet) -> RolloutOperation | None:
    """Return the rollout of a change set; None without one."""
    return next((one for one in change_set.operations if isinstance(one, RolloutOperation)), None)


def running(change_set: ChangeSet, observed: Observed) -> tuple[str, ...]:
    """Return the services that run and that a change set stops."""
    own = rollout(change_set)
    owned = observed.owned()
    names = () if own is None else dict.fromkeys((own.service, *own.replaces))
    return tuple(name for name in names if name in owned and owned[name].running)


def has_port(service: str, port: int, observed: Observed) -> bool:
    """Return whether a running service has a port: by its record, its container, or a listening process."""
    container, listener = observed.owned()[service], observed.listeners.get(port)
    listens = listener is not None and container.has_process(listener.cgroup)
    return listens or port in {observed.port_of(service), *container.ports}


def _lacking_gib(host: Host, own: RolloutOperation, observed: Observed) -> float:
    """Return how much memory a rollout needs beyond what is available and what it frees itself (GiB)."""
    total_gib = observed.memory_total_mib / MIB_IN_GIB
    service = next((one for one in host.services if one.name == own.service), None)
    if service is None:
        return 0.0
    needed = engines.get(service.engine).memory_gib(service, total_gib)
    stopped = dict.fromkeys((own.service, *own.replaces))
    freed = sum(_held_gib(name, observed, total_gib) for name in stopped)
    return needed - freed - observed.memory_available_mib / MIB_IN_GIB


def _held_gib(service: str, observed: Observed, total_gib: float) -> float:
    """Return the memory that a running service holds by the share in its record (GiB); 0 if unknown."""
    container, record = observed.owned().get(service), observed.generations.get(service)
    if container is None or not container.running or record is None or record.engine not in engines.names():
        return 0.0
    engine = engines.get(record.engine)
    values = engine.parse_args(record.argv, record.engine_version).values
    share = engine.memory_share({name.removeprefix("--"): value for name, value in values.items()})
    return (share or 0.0) * total_gib


def block_dependents(plan: HostPlan) -> HostPlan:
    """Return the plan with each change blocked that depends on a blocked one."""
    while True:
        blocked = [one for one in plan.change_sets if one.blocked]
        found = tuple(_with_cause(plan.host, one, blocked) for one in plan.change_sets)
        if found == plan.change_sets:
            return plan
        plan = replace(plan, change_sets=found)


def _with_cause(host: str, change_set: ChangeSet, blocked: Sequence[ChangeSet]) -> ChangeSet:
    if change_set.blocked:
        return change_set
    causes = [cause for other in blocked if (cause := _cause(host, change_set, other))]
    return replace(change_set, blocked=combine(*causes)) if causes else change_set


def _cause(host: str, change_set: ChangeSet, other: ChangeSet) -> Diagnostic | None:
    """Return why a change waits for a blocked one; None if it does not depend on it.

    The host itself comes before every service, its links before its rank of a cluster. What replaces a rank
    is left out there: ``join_members`` blocks it on all members, with the cause.
    """
    replaces_rank = bool(change_set.cluster) and change_set.restarts_engine
    of_host = other.scope is Scope.HOST or (other.scope is Scope.FABRIC and bool(change_set.cluster))
    reasons = [
        one.reason
        for one in change_set.depends_on
        if (one.subject, other.scope) == (other.subject, Scope.SERVICE)
    ]
    if of_host and not replaces_rank and change_set.scope is not Scope.HOST:
        reasons.append("it prepares the host")
    if not reasons:
        return None
    return Diagnostic(
        f"{host}: {change_set.subject}",
        f"waits for {other.title or other.subject}, which is blocked: {'; '.join(reasons)}",
        f"{other.subject} not blocked",
        f"resolve what blocks {other.subject}, then run again",
        code="change-waits",
    )
