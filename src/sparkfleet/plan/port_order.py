"""The order of rollouts on one host in which each finds its port free. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Host
from sparkfleet.plan.model import ChangeSet
from sparkfleet.plan.operations import RolloutOperation
from sparkfleet.plan.waiting import has_port, rollout
from sparkfleet.probe.observation import Observed


def order(host: Host, change_sets: Sequence[ChangeSet], observed: Observed) -> list[ChangeSet]:
    """Return the change sets, each after the one that frees its port; blocked without such an order."""
    waiting = list(change_sets)
    found: list[ChangeSet] = []
    while waiting:
        subjects = {one.subject: one for one in waiting}
        ready = [one for one in waiting if _waits_for(one, subjects, observed) is None]
        if not ready:
            return [*found, *(_blocked(host, one, subjects, observed) for one in waiting)]
        found.append(ready[0])
        waiting.remove(ready[0])
    return found


def _waits_for(
    change_set: ChangeSet, subjects: dict[str, ChangeSet], observed: Observed
) -> RolloutOperation | None:
    """Return the rollout of another service that frees the port which this change set needs."""
    own = rollout(change_set)
    if own is None or own.generation is None:
        return None
    port = own.generation.port
    for name, container in observed.owned().items():
        if name in {own.service, *own.replaces} or not container.running or name not in subjects:
            continue
        if has_port(name, port, observed):
            return rollout(subjects[name])
    return None


def _blocked(
    host: Host, change_set: ChangeSet, subjects: dict[str, ChangeSet], observed: Observed
) -> ChangeSet:
    other, own = _waits_for(change_set, subjects, observed), rollout(change_set)
    assert other is not None  # noqa: S101  (it waits)
    assert own is not None  # noqa: S101
    assert own.generation is not None  # noqa: S101
    port = own.generation.port
    diagnostic = Diagnostic(
        f"{host.name}: port {port}",
        f"{own.service} needs the port of {other.service}, and {other.service} in turn waits for a port: "
        "each engine keeps its port until its own rollout",
        "ports that become free one after the other",
        f"declare an unused `port:` for {own.service} and run; then declare port {port} and run again",
        code="port-exchange",
    )
    return replace(change_set, blocked=combine(change_set.blocked, diagnostic))
