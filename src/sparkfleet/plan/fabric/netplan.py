"""The netplan file of a Spark's links."""

from __future__ import annotations

from collections.abc import Sequence

from sparkfleet.contract.fabric import MARK, NETPLAN_FILE
from sparkfleet.desired_state import Member
from sparkfleet.plan.fabric.addresses import Rail, route

PATH = f"/etc/netplan/{NETPLAN_FILE}"


def text(member: Member, renderer: str, rails: Sequence[Rail]) -> str:
    """Return the file: one static address per link, no gateway, no link-local address.

    The renderer is set per link: at the top it would apply to all links. ``optional``: a boot does not wait
    for a cable.
    """
    lines = [
        f"{MARK} for the cluster {member.cluster}: {', '.join(member.hosts)}.",
        "# What is changed here by hand is undone by the next run.",
        "network:",
        "  version: 2",
        "  ethernets:",
    ]
    for rail in rails:
        lines += [
            f"    {rail.link.name}:",
            f"      renderer: {renderer}",
            f"      addresses: [{rail.address}]",
            f"      mtu: {member.fabric.mtu}",
            "      dhcp4: false",
            "      dhcp6: false",
            "      accept-ra: false",
            "      link-local: []",
            "      optional: true",
        ]
        way = route(member, rail)
        if way:
            lines += ["      routes:", f"        - to: {way.to}/32", f"          via: {way.via}"]
    return "\n".join(lines) + "\n"
