"""A change of a cluster in the report: one change set with its members and their differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Rank
from sparkfleet.plan.model import ChangeSet, FieldChange, HostPlan, Note, Plan
from sparkfleet.plan.operations import RolloutOperation

Line = TypeVar("Line", FieldChange, Note)


@dataclass(frozen=True)
class ClusterChange:
    """The change sets of a cluster's known members, by rank."""

    cluster: str
    members: tuple[tuple[str, ChangeSet], ...]

    @property
    def first(self) -> ChangeSet:
        """Return the change set of the first member (the head, if known)."""
        return self.members[0][1]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the names of all members by rank, unknown ones included."""
        rank = _rank_of(self.first)
        return rank.hosts if rank else tuple(name for name, _ in self.members)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Return why it is blocked, each reason once."""
        reasons = (one for _, own in self.members if own.blocked for one in own.blocked.each)
        return tuple(dict.fromkeys(reasons))

    def fields(self) -> Iterator[tuple[FieldChange, tuple[str, ...]]]:
        """Yield each field with the members that change it; no names if all do."""
        return self._shared([(name, own.fields()) for name, own in self.members])

    def notes(self) -> Iterator[tuple[Note, tuple[str, ...]]]:
        """Yield each note with its members; no names if all have it."""
        return self._shared([(name, own.notes) for name, own in self.members])

    def _shared(self, lines: Sequence[tuple[str, Sequence[Line]]]) -> Iterator[tuple[Line, tuple[str, ...]]]:
        """Yield each line once with its members, lines of one name grouped."""
        found: dict[Line, list[str]] = {}
        for name, own in lines:
            for line in own:
                found.setdefault(line, []).append(name)
        order = list(dict.fromkeys(line.name for line in chain.from_iterable(own for _, own in lines)))
        for line, names in sorted(found.items(), key=lambda one: order.index(one[0].name)):
            yield line, () if len(names) == len(self.members) else tuple(names)


def split_clusters(plan: Plan) -> tuple[Plan, tuple[ClusterChange, ...]]:
    """Return the plan without rollouts of clusters, and those rollouts.

    Hosts without other changes are omitted.
    """
    taken: dict[str, list[tuple[str, ChangeSet]]] = {}
    rest: list[HostPlan] = []
    for host in plan.hosts:
        own = tuple(one for one in host.change_sets if not _is_clusters(one))
        for one in host.change_sets:
            if _is_clusters(one):
                taken.setdefault(one.cluster, []).append((host.host, one))
        if own or len(own) == len(host.change_sets):
            rest.append(replace(host, change_sets=own))
    changes = (ClusterChange(name, tuple(sorted(members, key=_rank))) for name, members in taken.items())
    return Plan(tuple(rest)), tuple(changes)


def _is_clusters(change_set: ChangeSet) -> bool:
    return bool(change_set.cluster) and change_set.restarts_engine


def _rank_of(change_set: ChangeSet) -> Rank | None:
    rollouts = (one for one in change_set.operations if isinstance(one, RolloutOperation))
    return next((one.generation.rank for one in rollouts if one.generation), None)


def _rank(member: tuple[str, ChangeSet]) -> int:
    rank = _rank_of(member[1])
    return rank.rank if rank else 0
