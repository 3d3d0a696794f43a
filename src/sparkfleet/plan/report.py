"""The plan as text for people: one line for each field. Colour is added elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import with_code
from sparkfleet.plan.cluster.report import ClusterChange, split_clusters
from sparkfleet.plan.groups import Group, groups, names
from sparkfleet.plan.model import (
    Action,
    ChangeKind,
    ChangeSet,
    FieldChange,
    HostPlan,
    HostState,
    Note,
    Plan,
    ServiceStop,
)
from sparkfleet.units import duration, moment

HOST_WIDTH = 10
TITLE_WIDTH = 55
FIELD_WIDTH = 12


MANY = 12
"""Fleets with more Sparks than this show equal plans once."""
WIDTH = 110


def plan_text(plan: Plan) -> str:
    """Return the whole report: every host in order, unknown ones last, then the counts.

    For a fleet of more than MANY Sparks, the counts also come first, and Sparks with equal plans are one
    group.
    """
    single, clusters = split_clusters(plan)
    joint = [line for one in clusters for line in cluster_lines(one)]
    compared = [line for one in plan.warnings for line in _warning_lines(one)]
    if len(plan.hosts) > MANY:
        lines = [line for group in groups(single) for line in group_lines(group)]
        return (
            "\n".join([summary(plan), "", *lines, *joint, *compared, *_knowledge(plan), summary(plan)]) + "\n"
        )
    planned_hosts = [host for host in single.hosts if host.state is not HostState.UNKNOWN]
    unknown = [host for host in single.hosts if host.state is HostState.UNKNOWN]
    lines = [line for host in planned_hosts for line in host_lines(host)]
    last = [line for host in unknown for line in host_lines(host)]
    return "\n".join([*lines, *joint, *last, *compared, *_knowledge(plan), summary(plan)]) + "\n"


def _warning_lines(warning: Diagnostic) -> Iterator[str]:
    label = str(warning.severity).ljust(HOST_WIDTH)
    yield with_code(f"{label} {warning.location}: {warning.message}", warning.code)
    yield from diagnostic_lines(warning)


def _knowledge(plan: Plan) -> Iterator[str]:
    if plan.knowledge:
        yield f"knowledge {plan.knowledge}, not the bundled one (sparkfleet knowledge show)"


def summary(plan: Plan) -> str:
    """Return the last line: the number of hosts by state. Blocked and unknown only if there are any."""
    counts = [f"{plan.count(HostState.CHANGE)} to change", f"{plan.count(HostState.UNCHANGED)} unchanged"]
    partly = sum(host.state is HostState.BLOCKED and host.proceeds for host in plan.hosts)
    remark = f" ({partly} in part)" if partly else ""
    counts += [f"{n} blocked{remark}" for n in [plan.count(HostState.BLOCKED)] if n]
    counts += [f"{n} unknown" for n in [plan.count(HostState.UNKNOWN)] if n]
    return ", ".join(counts)


def group_lines(group: Group) -> Iterator[str]:
    """Yield the lines of a group: number and names of its Sparks, then the plan of the first."""
    first = group.first
    if len(group.plans) == 1:
        yield from host_lines(first)
        return
    headline, *rest = host_lines(replace(first, host=f"{len(group.plans)} Sparks"))
    yield headline
    members = names([plan.host for plan in group.plans])
    if rest:
        members += f"; shown: {first.host}"
    indent = " " * (HOST_WIDTH + 1)
    yield from textwrap.wrap(
        members, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    yield from rest


def host_lines(plan: HostPlan) -> Iterator[str]:
    """Yield the lines of one host."""
    name = plan.host.ljust(HOST_WIDTH)
    if plan.unknown:
        first, *rest = plan.unknown.each
        yield with_code(f"{name} unknown: {first.message}", first.code)
        yield from diagnostic_lines(first)
        for diagnostic in rest:
            yield with_code(f"  ! and         {diagnostic.message}", diagnostic.code)
            yield from diagnostic_lines(diagnostic)
    elif not plan.change_sets:
        yield f"{name} no changes{', except for what is unknown:' if plan.warnings else ''}"
    for warning in plan.warnings:
        yield with_code(f"  ! unknown     {warning.message}", warning.code)
        yield from diagnostic_lines(warning)
    for change_set in plan.change_sets:
        yield from change_set_lines(name, change_set)
    for stop in plan.stops:
        yield stop_line(stop)


def stop_line(stop: ServiceStop) -> str:
    """Return by whom and since when a service is stopped, and what differs meanwhile."""
    later = f"differs in {', '.join(stop.differs)}, which the first run after its start changes"
    remark = "; ".join(part for part in (stop.reason, later if stop.differs else "") if part)
    by = f"by {stop.operator} since {moment(stop.at)}"
    return _line("=", "stopped", (stop.service, by), remark)


def change_set_lines(name: str, change_set: ChangeSet) -> Iterator[str]:
    """Yield the headline of a change set, then a line for each field and note."""
    title = change_set.title or change_set.subject
    yield f"{name} {title.ljust(TITLE_WIDTH)} {cost(change_set)}".rstrip()
    for diagnostic in change_set.blocked.each if change_set.blocked else ():
        yield with_code(f"  ! blocked     {diagnostic.location}: {diagnostic.message}", diagnostic.code)
        yield from diagnostic_lines(diagnostic)
    for change in sorted(change_set.fields(), key=_place):
        yield field_line(change)
    for note in change_set.notes:
        yield note_line(note)


def cluster_lines(change: ClusterChange) -> Iterator[str]:
    """Yield the lines of a cluster: members, common changes, and changes of some members."""
    first = change.first
    title = f"{first.title or first.subject} ({names(change.hosts)})"
    yield f"{change.cluster.ljust(HOST_WIDTH)} {title.ljust(TITLE_WIDTH)} {cost(first)}".rstrip()
    for diagnostic in change.diagnostics:
        yield with_code(f"  ! blocked     {diagnostic.location}: {diagnostic.message}", diagnostic.code)
        yield from diagnostic_lines(diagnostic)
    for field, hosts in sorted(change.fields(), key=lambda one: _place(one[0])):
        yield _on(field_line(field), hosts)
    for note, hosts in change.notes():
        yield _on(note_line(note), hosts)


def _on(line: str, hosts: Sequence[str]) -> str:
    return f"{line}   on {names(hosts)}" if hosts else line


_FIRST = ("state", "name", "image", "pull", "model", "weights", "served name", "port", "flag", "env")
_PLACES = {name: place for place, name in enumerate(_FIRST)}
"""Image, model and flags first; other fields follow in the order of the operations."""


def _place(change: FieldChange) -> int:
    return _PLACES.get(change.name, len(_PLACES))


def diagnostic_lines(diagnostic: Diagnostic) -> Iterator[str]:
    """Yield what was expected, and the remedy."""
    if diagnostic.expected:
        yield f"              expected: {diagnostic.expected}"
    if diagnostic.hint:
        yield f"              do: {diagnostic.hint}"


def cost(change_set: ChangeSet) -> str:
    """Return what a change set costs: its kind, and the downtime where an engine stops."""
    if change_set.kind is ChangeKind.RECREATE:
        if change_set.downtime is None:
            return "recreate, without service while the engine starts"
        return f"recreate, about {duration(change_set.downtime)} without service"
    if change_set.kind is ChangeKind.RESTART and change_set.downtime is not None:
        return f"restart, about {duration(change_set.downtime)} without service"
    if change_set.kind is ChangeKind.UPDATE:
        return "update in place, no downtime"
    if change_set.kind is ChangeKind.STAGE:
        return "fetch, no downtime"
    return str(change_set.kind)


SIGNS = {Action.ADD: "+", Action.CHANGE: "~", Action.REMOVE: "-"}


def field_line(change: FieldChange) -> str:
    """Return one field: sign, name, key, old and new, note."""
    value = f"{change.old} → {change.new}" if change.old and change.new else change.new or change.old
    return _line(SIGNS[change.action], change.name, (change.key, value), change.note)


def note_line(note: Note) -> str:
    """Return one note."""
    return _line("=", note.name, (note.key, note.text), note.remark)


def _line(sign: str, name: str, values: Sequence[str], remark: str) -> str:
    text = f"  {sign} {name.ljust(FIELD_WIDTH)}" + " ".join(value for value in values if value)
    return (f"{text}   {remark}" if remark else text).rstrip()


def question(plan: Plan) -> str:
    """Return the question before a run: how many changes, where, and the longest time without service."""
    hosts = [host for host in plan.hosts if host.proceeds]
    ready = [one for host in hosts for one in host.change_sets if not one.blocked]
    number = sum(len(one.operations) for one in ready)
    down = max((one.downtime or 0 for one in ready), default=0)
    cost = f" About {duration(down)} without service." if down else ""
    changes = f"{number} change{'' if number == 1 else 's'}"
    return f"Apply {changes} on {names([host.host for host in hosts])}?{cost}"
