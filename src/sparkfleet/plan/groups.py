"""Groups of hosts with the same plan, so that the report of a large fleet stays readable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.model import ChangeSet, HostPlan, HostState, Plan

_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+(:\d+)?\b")
_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class Group:
    """One or more Sparks whose plans differ only in names, addresses and free space."""

    plans: tuple[HostPlan, ...]

    @property
    def first(self) -> HostPlan:
        """Return the plan that is shown for all."""
        return self.plans[0]


def groups(plan: Plan) -> tuple[Group, ...]:
    """Return the groups: those that change or are blocked, then the unchanged, then the unknown ones."""
    found: dict[object, list[HostPlan]] = {}
    for host in plan.hosts:
        found.setdefault(_essence(host), []).append(host)
    order = {HostState.UNCHANGED: 1, HostState.UNKNOWN: 2}
    listed = sorted(
        found.values(), key=lambda hosts: order.get(hosts[0].state, 0)
    )  # stable: else as they come
    return tuple(Group(tuple(hosts)) for hosts in listed)


def _essence(plan: HostPlan) -> object:
    change_sets = tuple(_change_set_essence(plan.host, one) for one in plan.change_sets)
    diagnostics = tuple(_diagnostic(plan.host, one) for one in (plan.unknown, *plan.warnings))
    return (plan.state, diagnostics, change_sets, plan.stops)


def _change_set_essence(host: str, change_set: ChangeSet) -> object:
    return (
        change_set.title,
        change_set.subject,
        _diagnostic(host, change_set.blocked),
        tuple(operation.essence() for operation in change_set.operations),
        tuple(note for note in change_set.notes if not note.of_this_host),
    )


def _diagnostic(host: str, diagnostic: Diagnostic | None) -> object:
    if diagnostic is None:
        return None
    texts = [text for one in diagnostic.each for text in (one.location, one.message, one.expected, one.hint)]
    return tuple(_ADDRESS.sub("", text.replace(host, "")) for text in texts)


def names(hosts: Sequence[str]) -> str:
    """Return names with runs of numbers merged: ``spark-01..04, spark-07``."""
    return ", ".join(_runs(hosts))


def _runs(hosts: Sequence[str]) -> Iterator[str]:
    run: list[str] = []
    for host in hosts:
        if run and not _follows(run[-1], host):
            yield _run(run)
            run = []
        run.append(host)
    if run:
        yield _run(run)


def _follows(before: str, after: str) -> bool:
    left, right = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(after)
    if left is None or right is None:
        return False
    same = left[1] == right[1] and len(left[2]) == len(right[2])
    return same and int(right[2]) == int(left[2]) + 1


def _run(run: list[str]) -> str:
    last = _NUMBERED.fullmatch(run[-1])
    if len(run) < 3 or last is None:  # noqa: PLR2004  (two are as short by name)
        return ", ".join(run)
    return f"{run[0]}..{last[2]}"
