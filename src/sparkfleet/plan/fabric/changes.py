"""Changes to the fabric links of one host, field by field."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.contract.fabric import MODE, FabricRequest, Peer, links_of
from sparkfleet.desired_state import Host, Member
from sparkfleet.plan.fabric import blockers, netplan
from sparkfleet.plan.fabric.addresses import Rail, address, numbers, peers, rails, route
from sparkfleet.plan.model import Action, ChangeSet, FieldChange, Note, Scope, Step
from sparkfleet.plan.operations import ConfigureFabric
from sparkfleet.probe.links import ObservedFabric
from sparkfleet.probe.observation import Observed, ObservedPath


def desired_addresses(host: Host) -> tuple[str, ...]:
    """Return all addresses that a Spark can get; () outside of clusters."""
    if host.member is None:
        return ()
    fabric, rank = host.member.fabric, host.member.rank
    return tuple(str(address(fabric, rank, rail).ip) for rail in numbers(host.member))


def watched_paths(host: Host) -> tuple[str, ...]:
    """Return paths to probe: our netplan file, which a Spark outside of clusters must not have."""
    return () if host.member else (netplan.PATH,)


def fabric_change_set(host: Host, observed: Observed) -> ChangeSet | None:
    """Return the changes of a Spark's links; None without changes and blockers."""
    if host.member is None or observed.fabric is None:
        return _removal(observed)
    member, fabric = host.member, observed.fabric
    own_rails = rails(member, fabric)
    changes = (*_link_changes(member, fabric, own_rails), *_file_changes(member, fabric, own_rails))
    blocked = blockers.obstacle(host.name, member, fabric, own_rails)
    if not changes and blocked is None:
        return None
    notes = (
        *_notes(host.name, fabric, own_rails),
        *(_running_engine(host.name, member, observed) if changes else ()),
    )
    title = f"fabric of {member.cluster}"
    request = _request(member, fabric, own_rails)
    operations = (ConfigureFabric(request, changes=changes),) if changes else ()
    return ChangeSet("fabric", operations, title, notes, blocked, scope=Scope.FABRIC)


def _request(member: Member, fabric: ObservedFabric, own_rails: Sequence[Rail]) -> FabricRequest:
    desired = {rail.link.name: str(rail.address) for rail in own_rails}
    ours = {*desired, *links_of(fabric.own or "")}
    drop = (
        (link.name, one)
        for link in fabric.links
        if link.name in ours
        for one in link.addresses
        if one != desired.get(link.name)
    )
    return FabricRequest(
        id="",
        cluster=member.cluster,
        text=netplan.text(member, fabric.renderer, own_rails),
        addresses=tuple(desired.items()),
        rdma=tuple((rail.link.name, rail.link.rdma) for rail in own_rails if rail.link.rdma),
        mtu=member.fabric.mtu,
        drop=tuple(drop),
        management=fabric.management,
        renderer=fabric.renderer,
        peers=tuple(_peers(member, own_rails)),
    )


def _peers(member: Member, found: Sequence[Rail]) -> Iterator[Peer]:
    for rail in found:
        for name, at in peers(member, rail.number):
            yield Peer(name, rail.link.name, at)
        way = route(member, rail)
        if way:
            yield Peer(way.name, rail.link.name, way.to)


def _removal(observed: Observed) -> ChangeSet | None:
    if observed.paths.get(netplan.PATH, ObservedPath("absent")).kind == "absent":
        return None
    note = "with the addresses that it assigned"
    gone = FieldChange(Action.REMOVE, "netplan", old=netplan.PATH, note=note)
    removal = ConfigureFabric(FabricRequest.removal(), changes=(gone,))
    return ChangeSet("fabric", (removal,), "fabric", scope=Scope.FABRIC)


def _link_changes(
    member: Member, fabric: ObservedFabric, own_rails: Sequence[Rail]
) -> tuple[FieldChange, ...]:
    changes = []
    cabled = {rail.link.name for rail in own_rails}
    for name in links_of(fabric.own or ""):
        if own_rails and name not in cabled:
            link = fabric.link(name)
            old = ", ".join(link.addresses) if link else ""
            changes.append(FieldChange(Action.REMOVE, "link", name, old=old, note="no cable"))
    for rail in own_rails:
        link, desired = rail.link, str(rail.address)
        if link.addresses != (desired,):
            action = Action.CHANGE if link.addresses else Action.ADD
            note = f"rail {rail.number}, cage {link.cage}" if link.cage else f"rail {rail.number}"
            old = ", ".join(link.addresses)
            changes.append(FieldChange(action, "address", link.name, old, desired, note))
        if link.mtu != member.fabric.mtu:
            mtu = FieldChange(Action.CHANGE, "mtu", link.name, str(link.mtu), str(member.fabric.mtu))
            changes.append(mtu)
        way = route(member, rail)
        if way and str(way) not in link.routes:
            changes.append(FieldChange(Action.ADD, "route", link.name, new=str(way), note=way.name))
    return tuple(changes)


def _file_changes(
    member: Member, fabric: ObservedFabric, own_rails: Sequence[Rail]
) -> tuple[FieldChange, ...]:
    if not own_rails:
        return ()  # the links are unknown without a cable
    desired = netplan.text(member, fabric.renderer, own_rails)
    if fabric.own is None:
        return (FieldChange(Action.ADD, "netplan", netplan.PATH),)
    changes = []
    if fabric.own != desired:
        old, new = (_short(text) for text in (fabric.own, desired))
        changes.append(FieldChange(Action.CHANGE, "netplan", netplan.PATH, old, new, "content"))
    mode = f"{MODE:04o}"
    if fabric.own_mode != mode:
        changes.append(FieldChange(Action.CHANGE, "netplan", netplan.PATH, fabric.own_mode, mode))
    return tuple(changes)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _running_engine(host: str, member: Member, observed: Observed) -> tuple[Note, ...]:
    """Return a note on a running engine that uses the links."""
    engine = observed.owned().get(member.service)
    if engine is None or not engine.running:
        return ()
    remark = "uses these links: it may hang until it is restarted"
    return (_warning(f"{host}: fabric", "service", engine.name, remark, code="fabric-in-use"),)


def _warning(where: str, name: str, text: str, remark: str, *, code: str) -> Note:
    found = Diagnostic(where, f"{text}: {remark}", severity=Severity.WARNING, code=code)
    return Note(Step.FABRIC, name, text=text, remark=remark, diagnostic=found)


def _notes(host: str, fabric: ObservedFabric, own_rails: Sequence[Rail]) -> tuple[Note, ...]:
    if not own_rails:
        names = ", ".join(link.name for link in fabric.links if not link.carrier) or "no netdev"
        return (Note(Step.FABRIC, "link", text=names, remark="no carrier"),)
    if len(own_rails) % 2:
        names = ", ".join(rail.link.name for rail in own_rails)
        remark = "a cage without its twin: half of the bandwidth"
        return (_warning(f"{host}: fabric", "link", names, remark, code="fabric-twin-missing"),)
    return ()
