"""A change of a cluster as people read it: one entry with its members, and what differs between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.model import Change, Entry, HostPlan, Plan


@dataclass(frozen=True)
class ClusterEntry:
    """What a run does to a cluster: the same entry of each member that is known, by rank."""

    cluster: str
    members: tuple[tuple[str, Entry], ...]

    @property
    def first(self) -> Entry:
        """Return the entry of the first member, the head where it is known."""
        return self.members[0][1]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the names of all members by rank, also of those that are not known."""
        generation = self.first.generation
        rank = generation.rank if generation else None
        return rank.hosts if rank else tuple(name for name, _ in self.members)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Return why it is blocked, each reason once."""
        said = (one for _, entry in self.members if entry.blocked for one in entry.blocked.each)
        return tuple(dict.fromkeys(said))

    def changes(self) -> Iterator[tuple[Change, tuple[str, ...]]]:
        """Yield each change with the members that have it; no names where all have the same."""
        found: dict[Change, list[str]] = {}
        for name, entry in self.members:
            for change in entry.changes:
                found.setdefault(change, []).append(name)
        for change, names in sorted(found.items(), key=self._place):
            yield change, () if len(names) == len(self.members) else tuple(names)

    def _place(self, found: tuple[Change, list[str]]) -> int:
        """Fields in the order of the first member that has them."""
        change, names = found
        entry = dict(self.members)[names[0]]
        same = [index for index, one in enumerate(entry.changes) if one.field == change.field]
        return same[0]


def apart(plan: Plan) -> tuple[Plan, tuple[ClusterEntry, ...]]:
    """Return the plan without changes of clusters (Sparks of which nothing is left are left out), and those
    changes.
    """
    taken: dict[str, list[tuple[str, Entry]]] = {}
    rest: list[HostPlan] = []
    for host in plan.hosts:
        own = tuple(entry for entry in host.entries if not _is_clusters(entry))
        for entry in host.entries:
            if _is_clusters(entry):
                taken.setdefault(entry.cluster, []).append((host.host, entry))
        if own or len(own) == len(host.entries):
            rest.append(replace(host, entries=own))
    found = (ClusterEntry(name, tuple(sorted(members, key=_rank))) for name, members in taken.items())
    return Plan(tuple(rest)), tuple(found)


def _is_clusters(entry: Entry) -> bool:
    return bool(entry.cluster) and entry.needs_swap


def _rank(member: tuple[str, Entry]) -> int:
    generation = member[1].generation
    return generation.rank.rank if generation and generation.rank else 0
