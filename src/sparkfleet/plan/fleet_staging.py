"""Who gets what from whom: each image and each model comes from outside once, then from Spark to Spark. Pure.

A plan of one Spark knows only that something is missing there. Here the plans of all Sparks of a run are seen
together, and each missing thing gets its source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sparkfleet.config.resolved import AUTO, NONE, Host
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.plan import staging
from sparkfleet.plan.model import Change, Entry, HostPlan, HostState, Source, Step, Stock

Sources = Mapping[tuple[str, str], Source | None]
"""Host and key of what it needs -> where it gets it from; None: from nowhere."""

Lacks = Mapping[tuple[str, str], Diagnostic]
"""Host and key of what it needs -> why its source does not have it."""

UNPACKED = 3
"""An image on a disk has at most about so many times the bytes that are pulled."""
TO_SEND, TO_LOAD = 2, 3
"""So many times an image's bytes must be free: where it is written to a file, by docker and for sending;
where that file is loaded, by way of docker's own temporary files. Who can load can send on afterwards."""


@dataclass
class _Holder:
    """A Spark that has the thing, or will have it: it sends to so many others."""

    name: str
    depth: int
    slots: int
    size: int = 0
    """Bytes that it sends, where they are not those that are missing."""


def spread(hosts: Mapping[str, Host], plans: Sequence[HostPlan]) -> Sources:
    """Return the source of each thing that a Spark of these plans needs."""
    found: dict[tuple[str, str], Source | None] = {}
    for key, stocks in _by_key(plans).items():
        needing = [name for name, stock in stocks.items() if not stock.whole]
        if needing:
            for name, source in _sources(hosts, stocks, needing).items():
                found[name, key] = source
    return found


def _by_key(plans: Sequence[HostPlan]) -> dict[str, dict[str, Stock]]:
    """Return each thing with the Sparks that can take part: key -> host -> stock, in the plans' order."""
    found: dict[str, dict[str, Stock]] = {}
    for plan in plans:
        if plan.state in {HostState.UNKNOWN, HostState.BLOCKED}:
            continue
        fetched = {change.item for entry in plan.entries for change in entry.changes if change.item}
        for stock in plan.stock:
            if stock.whole or stock.key in fetched:
                found.setdefault(stock.key, {})[plan.host] = stock
    return found


def _sources(
    hosts: Mapping[str, Host], stocks: Mapping[str, Stock], needing: list[str]
) -> dict[str, Source | None]:
    policy = hosts[needing[0]].stage
    mirror = bool(policy.mirror)
    outside = [name for name in needing if mirror or not hosts[name].prepare.offline]
    found: dict[str, Source | None] = {
        name: Source(mirror=mirror) if name in outside else None for name in needing
    }
    if policy.seed == NONE:
        return found
    receiving = [name for name in needing if _may_receive(stocks[name], hosts[name])]
    holders = [
        _Holder(name, 0, policy.parallel, stock.have if stock.step is Step.IMAGE else 0)
        for name, stock in stocks.items()
        if stock.whole and _may_send(stock)
    ]
    if not holders:
        able = [name for name in outside if _may_send(stocks[name])]
        if not able:
            return found
        seed = _seed(policy.seed, able, stocks)
        if seed != policy.seed != AUTO:
            found[seed] = Source(mirror=mirror, not_seed=_not_seed(policy.seed, needing, outside))
        receiving = [name for name in receiving if name != seed]
        built = stocks[seed] if stocks[seed].derived else None
        # All of it is copied, the base as well, also to a Spark that lacks nothing but the packages.
        size = built.have + built.missing if built else 0
        holders.append(_Holder(seed, 0, policy.parallel, size))
    for name in receiving:
        found[name] = _take(name, holders, hosts)
    return found


def _may_send(stock: Stock) -> bool:
    """Tell whether there is room for what sending takes: an image is written to a file first."""
    return stock.step is not Step.IMAGE or stock.free >= TO_SEND * _unpacked(stock)


def _may_receive(stock: Stock, host: Host) -> bool:
    """Tell whether the Spark can take an image's file; a registry or the mirror then gives it its digest.

    A derived image brings its name along.
    """
    if stock.step is not Step.IMAGE:
        return True
    named = stock.derived or bool(host.stage.mirror) or not host.prepare.offline
    return named and stock.free >= TO_LOAD * _unpacked(stock)


def _unpacked(stock: Stock) -> int:
    return stock.have or UNPACKED * stock.missing


def _seed(declared: str, outside: list[str], stocks: Mapping[str, Stock]) -> str:
    """Return who downloads: the declared Spark if it needs the thing, else the one that has most of it."""
    if declared != AUTO and declared in outside:
        return declared
    return max(outside, key=lambda name: stocks[name].have)  # the first of equals


def _not_seed(declared: str, needing: list[str], outside: list[str]) -> str:
    if declared not in needing:
        return f"the seed {declared} does not need it, or cannot be changed now"
    return f"the seed {declared} {'has no room to send it' if declared in outside else 'is offline'}"


def _take(name: str, holders: list[_Holder], hosts: Mapping[str, Host]) -> Source:
    """Choose a holder with a free slot, the nearest first; from then on the Spark is a holder, too."""
    free = [holder for holder in holders if holder.slots]
    chosen = min(free, key=lambda one: (not near(hosts[name], hosts[one.name]), one.depth))
    chosen.slots -= 1
    holders.append(_Holder(name, chosen.depth + 1, hosts[name].stage.parallel, chosen.size))
    return Source(chosen.name, near(hosts[name], hosts[chosen.name]), chosen.size)


def near(one: Host, other: Host) -> bool:
    """Tell whether two Sparks are linked by the fabric: members of one cluster are."""
    return one.member is not None and other.member is not None and one.member.cluster == other.member.cluster


def settled(plan: HostPlan, sources: Sources, lacks: Lacks | None = None) -> HostPlan:
    """Return the plan with the source of each thing in it; blocked where there is none, or it lacks it."""
    if not any(host == plan.host for host, _ in sources):
        return plan
    stocks = {stock.key: stock for stock in plan.stock}
    missing = {key: diagnostic for (host, key), diagnostic in (lacks or {}).items() if host == plan.host}
    entries = (_lacking(_settled(plan.host, entry, stocks, sources), missing) for entry in plan.entries)
    return replace(plan, entries=tuple(entries))


def _lacking(entry: Entry, missing: Mapping[str, Diagnostic]) -> Entry:
    found = dict.fromkeys(change.item for change in entry.changes if change.item in missing)
    return replace(entry, blocked=combine(entry.blocked, *(missing[key] for key in found)))


def _settled(host: str, entry: Entry, stocks: Mapping[str, Stock], sources: Sources) -> Entry:
    changes: list[Change] = []
    blocked = entry.blocked
    for change in entry.changes:
        if (host, change.item) not in sources:
            changes.append(change)
            continue
        source = sources[host, change.item]
        if source is None:
            blocked = combine(blocked, _nowhere(host, stocks[change.item]))
            changes.append(change)
        else:
            changes.append(replace(change, note=_note(change, stocks[change.item], source)))
    return replace(entry, changes=tuple(changes), blocked=blocked)


def _note(change: Change, stock: Stock, source: Source) -> str:
    """Return what is said of the source: with the amount where the change is of the whole thing."""
    if change.note:
        said = staging.amount(stock, source)
    else:
        said = staging.origin(stock, source) if source.host or source.mirror or source.not_seed else ""
    return f"{said}; {source.not_seed}" if source.not_seed else said


def _nowhere(host: str, stock: Stock) -> Diagnostic:
    if stock.derived:
        return Diagnostic(
            f"{host}: {stock.key}",
            "no Spark of this run has the image or may build it: those that need it are offline",
            "a Spark that has it, or one that reaches the image's registry and the package index",
            "run without --limit, so that all are asked; or set 'prepare: {offline: false}' on one of them",
        )
    if stock.step is Step.IMAGE:
        return Diagnostic(
            f"{host}: {stock.key}",
            "the image is not here, and this Spark is offline",
            "an offline mirror with it, or access to its registry: docker takes a digest from no other Spark",
            "sparkfleet mirror INVENTORY DIR where the registry can be reached, and 'stage: {mirror: DIR}'; "
            "or set 'prepare: {offline: false}' until it is here",
        )
    return Diagnostic(
        f"{host}: {stock.key}",
        "no Spark of this run has it, and those that need it are offline",
        "a Spark that has it, one that may download, or an offline mirror",
        "run without --limit, so that all are asked; or sparkfleet mirror INVENTORY DIR where the hub can be "
        "reached, and 'stage: {mirror: DIR}'; or set 'prepare: {offline: false}' on one of them",
    )
