"""The plans of a cluster's members as one: a change of its service is on all of them, or on none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sparkfleet import runtimes
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Member
from sparkfleet.plan.model import ChangeKind, ChangeSet, HostPlan, Scope, ServiceStop


def join_members(plans: Iterable[HostPlan], members: Mapping[str, Member]) -> dict[str, HostPlan]:
    """Return the plans by host, those of a cluster's members joined.

    ``members``: host name -> its place in a cluster. If one rank's container is replaced, all are; if one
    member cannot take part, none does.
    """
    found = {plan.host: plan for plan in plans}
    for cluster in dict.fromkeys(members[name].cluster for name in found if name in members):
        hosts = next(member.hosts for member in members.values() if member.cluster == cluster)
        plans = [found[name] for name in hosts if name in found]
        if any(_change_kind(plan, cluster) is ChangeKind.STOP for plan in plans):
            _join_stop(found, cluster, hosts)
        elif stop := next((one for plan in plans for one in plan.stops if one.cluster == cluster), None):
            found |= {plan.host: _left(plan, stop) for plan in plans}
        elif any(_change_kind(plan, cluster) for plan in plans):
            _join(found, cluster, hosts)
    return found


def _change_kind(plan: HostPlan, cluster: str) -> ChangeKind | None:
    """Return what happens to the engine of this rank; None: nothing."""
    own = (one for one in plan.change_sets if one.cluster == cluster and one.restarts_engine)
    return next((one.kind for one in own), None)


def _join_stop(plans: dict[str, HostPlan], cluster: str, hosts: tuple[str, ...]) -> None:
    """Block the stop of a part of the members; those that are unknown cannot be stopped."""
    reasons = [_reason(name, None, None, cluster, serves=False) for name in hosts if name not in plans]
    for plan in [plans[name] for name in hosts if name in plans]:
        sets = tuple(
            replace(one, blocked=combine(one.blocked, *reasons)) if one.cluster == cluster else one
            for one in plan.change_sets
        )
        plans[plan.host] = replace(plan, change_sets=sets)


def _left(plan: HostPlan, stop: ServiceStop) -> HostPlan:
    """Return the plan of a member without changes of a cluster that was stopped on this or another member."""
    if plan.unknown:
        return plan
    rest = tuple(one for one in plan.change_sets if one.cluster != stop.cluster)
    is_shown = any(one.cluster == stop.cluster for one in plan.stops)
    return replace(plan, change_sets=rest, stops=plan.stops if is_shown else (*plan.stops, stop))


def _join(plans: dict[str, HostPlan], cluster: str, hosts: tuple[str, ...]) -> None:
    own = {
        name: change_set
        for name in hosts
        if name in plans and (change_set := _change_set(plans[name], cluster))
    }
    serves = any(one.kind is ChangeKind.RECREATE for one in own.values())
    members = [plans[name] for name in hosts if name in plans]
    reasons = combine(
        *_other_images(cluster, members),
        *(_reason(name, plans.get(name), own.get(name), cluster, serves=serves) for name in hosts),
    )
    for name, change_set in own.items():
        plan = plans[name]
        rest = tuple(one for one in plan.change_sets if one.cluster != cluster)
        plans[name] = replace(plan, change_sets=(*rest, replace(change_set, blocked=reasons)))


def _other_images(cluster: str, plans: Sequence[HostPlan]) -> Iterator[Diagnostic]:
    """Yield members whose image has other content: a rollout compares it, and refuses them."""
    first: dict[str, tuple[str, str]] = {}
    for plan in plans:
        for artifact in plan.artifacts:
            if not artifact.identity:
                continue
            host, identity = first.setdefault(artifact.key, (plan.host, artifact.identity))
            if identity == artifact.identity:
                continue
            what = "another build" if artifact.derived else "other content"
            remove = runtimes.get(runtimes.of_containers()[0]).remove_image_command(artifact.key)
            remedy = f"on {plan.host}: {remove}; then run again: it is "
            remedy += "copied" if artifact.derived else "pulled"
            yield Diagnostic(
                f"cluster {cluster}",
                f"{plan.host} has {what} of {artifact.key} than {host}",
                "the same image on every member",
                remedy,
                code="cluster-image-differs",
            )


def _change_set(plan: HostPlan, cluster: str) -> ChangeSet | None:
    """Return the change of this rank; None if unknown."""
    own = (
        change_set
        for change_set in plan.change_sets
        if change_set.cluster == cluster and change_set.restarts_engine
    )
    return next(own, plan.recreate)


def _reason(
    name: str, plan: HostPlan | None, own: ChangeSet | None, cluster: str, *, serves: bool
) -> Diagnostic | None:
    """Return why a member cannot take part, None if it can. ``serves``: the cluster runs already."""
    if own is not None and own.blocked:
        return own.blocked
    of_host = [] if plan is None else [one for one in plan.change_sets if one.scope is not Scope.SERVICE]
    where, expected = f"cluster {cluster}", "every member ready: a cluster changes on all members or on none"
    if plan is None:
        why = f"{name} is not in this run"
        remedy = "omit --limit, or name all members"
    elif plan.unknown:
        why, remedy = f"{name} is unknown: {plan.unknown.message}", "fix that first, then run again"
        why = f"degraded: {why}" if serves else why
    elif any(one.blocked for one in of_host):
        return combine(
            *(
                Diagnostic(
                    where,
                    f"{name} is blocked: {one.location}: {one.message}",
                    expected,
                    one.hint,
                    code="cluster-member-not-ready",
                )
                for change_set in of_host
                for one in (change_set.blocked.each if change_set.blocked else ())
            )
        )
    elif own is None:
        why = f"{name} must be prepared first; its services are planned afterwards"
        remedy = "pyinfra INVENTORY deploys/prepare.py, then run again"
    else:
        return None
    return Diagnostic(where, why, expected, remedy, code="cluster-member-not-ready")
