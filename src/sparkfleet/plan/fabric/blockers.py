"""Conflicts with the fabric links of a host: reported with a remedy, never removed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Member
from sparkfleet.plan import other_tools
from sparkfleet.plan.fabric import ring
from sparkfleet.plan.fabric.addresses import Rail, address
from sparkfleet.plan.fabric.environment import has_rdma
from sparkfleet.probe.links import NetworkFile, ObservedFabric


def obstacle(host: str, member: Member, fabric: ObservedFabric, rails: Sequence[Rail]) -> Diagnostic | None:
    """Return everything that prevents the declared links; None: nothing."""
    return combine(
        no_cable(host, member, fabric, rails),
        _management(host, fabric, rails),
        _renderer(host, fabric),
        *_foreign_files(host, fabric, rails),
        _address(host, member, fabric, rails),
        _no_rdma(host, member, fabric) if rails else None,
    )


def no_cable(host: str, member: Member, fabric: ObservedFabric, rails: Sequence[Rail]) -> Diagnostic | None:
    """Return that no link to another Spark has a carrier."""
    if rails:
        return None
    where, expected = f"{host}: fabric", "a QSFP cable to another Spark that is switched on"
    if member.fabric.ring:
        expected = f"a cable in each of the two cages: {ring.wiring(member.hosts)}"
    names = ", ".join(link.name for link in fabric.links if not link.carrier)
    if not fabric.links:
        message = "no ConnectX-7 link was found: without a cable, the card is removed from the bus"
        return Diagnostic(
            where,
            message,
            expected,
            f"plug the cable in, then run again; if there is still no link, on {host}: sudo reboot",
            code="fabric-no-carrier",
        )
    off = [link.name for link in fabric.links if link.carrier is None]
    if off:
        message, up = f"no carrier: {', '.join(off)} switched off", f"sudo ip link set dev {off[0]} up"
        return Diagnostic(
            where,
            message,
            expected,
            f"on {host}: {up} (and the others); then run again",
            code="fabric-no-carrier",
        )
    return Diagnostic(
        where,
        f"no carrier on {names}",
        expected,
        "check the cable at both ends; then run again",
        code="fabric-no-carrier",
    )


def _management(host: str, fabric: ObservedFabric, rails: Sequence[Rail]) -> Diagnostic | None:
    for rail in rails:
        if rail.link.name in fabric.management:
            return Diagnostic(
                f"{host}: {rail.link.name}",
                "this link carries the SSH connection or the default route",
                "management over a link outside the fabric",
                "reach the Spark over its RJ45 or Wi-Fi address (`ssh: {hostname: ...}` in the host file)",
                code="fabric-link-is-management",
            )
    return None


def _renderer(host: str, fabric: ObservedFabric) -> Diagnostic | None:
    if fabric.netplan and fabric.renderer in {"networkd", "NetworkManager"}:
        return None
    message = f"netplan renders by {fabric.renderer}" if fabric.netplan else "netplan is not installed"
    return Diagnostic(
        f"{host}: fabric",
        message,
        "netplan with networkd or NetworkManager, as on DGX OS",
        f"on {host}: sudo apt-get install netplan.io",
        code="netplan-missing",
    )


def _foreign_files(host: str, fabric: ObservedFabric, rails: Sequence[Rail]) -> Iterator[Diagnostic]:
    names = {rail.link.name for rail in rails}
    for file in fabric.foreign:
        ours = sorted(names & set(file.links))
        if ours:
            yield Diagnostic(
                f"{host}: {file.path}",
                f"{_whose(file)} configures {', '.join(ours)}",
                "fabric links configured by one file only",
                f"on {host}: sudo mv {file.path} {file.path}.off (keep it: not managed by sparkfleet); "
                "then run again",
                code="netplan-file-conflict",
            )


def _whose(file: NetworkFile) -> str:
    tool = other_tools.netplan_tool(file.path)
    return f"a file of {tool}" if tool else "a file that sparkfleet did not write"


def _address(host: str, member: Member, fabric: ObservedFabric, rails: Sequence[Rail]) -> Diagnostic | None:
    remedy = "choose another `fabric: {network: ...}` in the cluster's file"
    whole = ipaddress.IPv4Network(member.fabric.network)
    for rail in rails:
        where = f"{host}: {rail.link.name}"
        if address(member.fabric, member.rank, rail.number).ip not in whole:
            message = f"{whole} has no room for {len(rails)} rails of /24 and {len(member.hosts)} Sparks"
            return Diagnostic(where, message, "a /24 for each rail", remedy, code="fabric-network-conflict")
        for name, other in fabric.networks:
            if rail.address.network.overlaps(ipaddress.IPv4Interface(other).network):
                message = f"{rail.address.network} is also the network of {name} ({other})"
                return Diagnostic(
                    where,
                    message,
                    "a network without other uses",
                    remedy,
                    code="fabric-network-conflict",
                )
        for owner in fabric.address_owners:
            if owner.address == str(rail.address.ip):
                message = f"{owner.address} is in use: {owner.mac} answers for it on {owner.link}"
                return Diagnostic(where, message, "an unused address", remedy, code="fabric-network-conflict")
    return None


def _no_rdma(host: str, member: Member, fabric: ObservedFabric) -> Diagnostic | None:
    if member.fabric.tcp or has_rdma(member, fabric):
        return None
    return Diagnostic(
        f"{host}: fabric",
        "no RDMA: /dev/infiniband or an RDMA device of a link is missing",
        "RDMA on every link; over TCP the engine is many times slower",
        f"on {host}: ibdev2netdev; ls /dev/infiniband; or allow it with `fabric: {{tcp: true}}`",
        code="rdma-missing",
    )
