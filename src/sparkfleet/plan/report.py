"""The plan as people read it: plain text, one line a field. Colour is laid over it elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.cluster.report import ClusterEntry, apart
from sparkfleet.plan.groups import Group, groups, names
from sparkfleet.plan.model import Change, Entry, HostPlan, HostState, Plan, Verb
from sparkfleet.plan.units import duration

HOST_WIDTH = 10
TITLE_WIDTH = 55
FIELD_WIDTH = 12


MANY = 12
"""Up to so many Sparks each has lines of its own; of more, those with the same plan are shown once."""
WIDTH = 110


def plan_text(plan: Plan) -> str:
    """Return the whole report: every host in order, unknown ones last, then the counts.

    Of a fleet with MANY Sparks the counts come first as well, and Sparks with the same plan are one group.
    """
    single, clusters = apart(plan)
    joint = [line for one in clusters for line in cluster_lines(one)]
    if len(plan.hosts) > MANY:
        lines = [line for group in groups(single) for line in group_lines(group)]
        return "\n".join([summary(plan), "", *lines, *joint, summary(plan)]) + "\n"
    known = [host for host in single.hosts if host.state is not HostState.UNKNOWN]
    unknown = [host for host in single.hosts if host.state is HostState.UNKNOWN]
    lines = [line for host in known for line in host_lines(host)]
    last = [line for host in unknown for line in host_lines(host)]
    return "\n".join([*lines, *joint, *last, summary(plan)]) + "\n"


def summary(plan: Plan) -> str:
    """Return the last line: how many hosts are in which state; states without hosts are left out but the
    first two.
    """
    words = [f"{plan.count(HostState.CHANGE)} to change", f"{plan.count(HostState.UNCHANGED)} unchanged"]
    words += [f"{n} blocked" for n in [plan.count(HostState.BLOCKED)] if n]
    words += [f"{n} unknown" for n in [plan.count(HostState.UNKNOWN)] if n]
    return ", ".join(words)


def group_lines(group: Group) -> Iterator[str]:
    """Yield the lines of a group: those of its first Spark, under the number and the names of all."""
    first = group.first
    if len(group.plans) == 1:
        yield from host_lines(first)
        return
    headline, *rest = host_lines(replace(first, host=f"{len(group.plans)} Sparks"))
    yield headline
    said = names([plan.host for plan in group.plans])
    if rest:
        said += f"; shown: {first.host}"
    indent = " " * (HOST_WIDTH + 1)
    yield from textwrap.wrap(
        said, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    yield from rest


def host_lines(plan: HostPlan) -> Iterator[str]:
    """Yield the lines of one host."""
    name = plan.host.ljust(HOST_WIDTH)
    if plan.unknown:
        first, *others = plan.unknown.each
        yield f"{name} unknown: {first.message}"
        yield from _diagnostic_lines(first)
        for diagnostic in others:
            yield f"  ! and         {diagnostic.message}"
            yield from _diagnostic_lines(diagnostic)
    elif not plan.entries:
        yield f"{name} no changes"
    for entry in plan.entries:
        yield from entry_lines(name, entry)


def entry_lines(name: str, entry: Entry) -> Iterator[str]:
    """Yield the headline of an entry, then a line for each field."""
    title = entry.title or entry.subject
    yield f"{name} {title.ljust(TITLE_WIDTH)} {cost(entry)}".rstrip()
    for diagnostic in entry.blocked.each if entry.blocked else ():
        yield f"  ! blocked     {diagnostic.location}: {diagnostic.message}"
        yield from _diagnostic_lines(diagnostic)
    for change in entry.changes:
        yield change_line(change)


def cluster_lines(entry: ClusterEntry) -> Iterator[str]:
    """Yield the lines of a cluster: its members, what changes on all, and what on some alone."""
    first = entry.first
    title = f"{first.title or first.subject} ({names(entry.hosts)})"
    yield f"{entry.cluster.ljust(HOST_WIDTH)} {title.ljust(TITLE_WIDTH)} {cost(first)}".rstrip()
    for diagnostic in entry.diagnostics:
        yield f"  ! blocked     {diagnostic.location}: {diagnostic.message}"
        yield from _diagnostic_lines(diagnostic)
    for change, hosts in entry.changes():
        yield f"{change_line(change)}   on {names(hosts)}" if hosts else change_line(change)


def _diagnostic_lines(diagnostic: Diagnostic) -> Iterator[str]:
    if diagnostic.expected:
        yield f"              expected: {diagnostic.expected}"
    if diagnostic.hint:
        yield f"              do: {diagnostic.hint}"


def cost(entry: Entry) -> str:
    """Return what an entry costs: the verb, and the time without service where an engine stops."""
    if entry.verb is Verb.RECREATE:
        if entry.downtime_s is None:
            return "recreate, without service while the engine starts"
        return f"recreate, about {duration(entry.downtime_s)} without service"
    if entry.verb is Verb.UPDATE:
        return "update in place, serves on"
    if entry.verb is Verb.STAGE:
        return "fetch, serves on"
    return str(entry.verb)


def change_line(change: Change) -> str:
    """Return one field: sign, field, key, old and new, note."""
    value = f"{change.old} → {change.new}" if change.old and change.new else change.new or change.old
    words = [change.key, value]
    text = f"  {change.sign} {change.field.ljust(FIELD_WIDTH)}" + " ".join(word for word in words if word)
    return (f"{text}   {change.note}" if change.note else text).rstrip()
