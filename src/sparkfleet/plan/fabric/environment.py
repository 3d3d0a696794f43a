"""Fabric variables of an engine, per Spark: interfaces differ even within one cluster.

docs/explanation/fabric.md has the reason for each. All are always set: images have defaults for other
machines.
"""

from __future__ import annotations

import ipaddress

from sparkfleet.desired_state import Member
from sparkfleet.plan.fabric.addresses import Rail, rails
from sparkfleet.probe.links import ObservedFabric

DEVICE = "/dev/infiniband"
"""Device that RDMA needs in the container; without it NCCL silently falls back to TCP."""
MEMLOCK = ("memlock", -1)
"""Limit that RDMA needs, since it pins memory."""
GID_CHOICE = frozenset({"NCCL_IB_GID_INDEX", "NCCL_IB_ADDR_RANGE"})
"""Variables without which NCCL chooses the same GID in most cases: they alone need no new container."""


def environment(member: Member, fabric: ObservedFabric, address_env: str = "") -> tuple[tuple[str, str], ...]:
    """Return the variables of a rank on this Spark, in a fixed order; () when it has no link.

    ``address_env``: the engine's variable for this Spark's own address.

    ``rendezvous: fabric``: ranks find each other over the first rail. ``rendezvous: management``: over the
    management network; the data goes over the fabric in both cases.
    """
    links = rails(member, fabric)
    if not links:
        return ()
    name, address = _rendezvous(member, fabric, links)
    rdma = has_rdma(member, fabric)
    # Without RDMA the data itself uses these sockets: every rail, never management. In a ring only the rail
    # with the node address: routes lead to the right cable.
    every = links[:1] if member.fabric.ring else links
    sockets = name if rdma else ",".join(rail.link.name for rail in every)
    return (
        *(((address_env, address),) if address_env else ()),
        ("NCCL_SOCKET_IFNAME", sockets),
        ("GLOO_SOCKET_IFNAME", name),
        ("TP_SOCKET_IFNAME", name),
        ("MN_IF_NAME", name),
        ("UCX_NET_DEVICES", name),
        ("OMPI_MCA_btl_tcp_if_include", name),
        *(_rdma(links, tcp=member.fabric.tcp) if rdma else _sockets()),
        *(_ring() if rdma and member.fabric.ring else ()),
        ("NCCL_CROSS_NIC", "1"),
        ("NCCL_NVLS_ENABLE", "0"),
        ("NCCL_IGNORE_CPU_AFFINITY", "1"),
        ("NCCL_DEBUG", "INFO"),  # the log then shows the transport that NCCL uses
        ("NCCL_DEBUG_SUBSYS", "INIT,NET"),
    )


def has_rdma(member: Member, fabric: ObservedFabric) -> bool:
    """Return whether every rail of the Spark has a usable RDMA device."""
    links = rails(member, fabric)
    return fabric.verbs and bool(links) and all(rail.link.rdma for rail in links)


def _rendezvous(member: Member, fabric: ObservedFabric, links: tuple[Rail, ...]) -> tuple[str, str]:
    if member.fabric.rendezvous == "management" and fabric.management:
        return fabric.management[0], fabric.management_address
    return links[0].link.name, str(links[0].address.ip)


def _rdma(links: tuple[Rail, ...], *, tcp: bool) -> tuple[tuple[str, str], ...]:
    devices = ",".join(f"{rail.link.rdma}:1" for rail in links)
    return (
        *(() if tcp else (("NCCL_NET", "IB"),)),  # a broken RDMA path fails instead of falling back to TCP
        ("NCCL_IB_DISABLE", "0"),
        ("NCCL_IB_HCA", f"={devices}"),
        # Instead of a GID index, which differs between the devices of a Spark and changes while it runs: with
        # -1 NCCL takes, per device and at each start, the entry of this version, family and range.
        ("NCCL_IB_ROCE_VERSION_NUM", "2"),
        ("NCCL_IB_ADDR_FAMILY", "AF_INET"),
        ("NCCL_IB_GID_INDEX", "-1"),
        ("NCCL_IB_ADDR_RANGE", str(_range(links))),
    )


def _range(links: tuple[Rail, ...]) -> ipaddress.IPv4Network:
    """Return the smallest network that has the addresses of all rails."""
    found = links[0].address.network
    while not all(rail.address.ip in found for rail in links):
        found = found.supernet()
    return found


def _ring() -> tuple[tuple[str, str], ...]:
    """Return what NCCL (2.30 or later) needs in a ring, where each port reaches only one other Spark."""
    return (
        ("NCCL_IB_SUBNET_AWARE_ROUTING", "1"),
        ("NCCL_IB_MERGE_NICS", "0"),
        ("NCCL_NET_PLUGIN", "none"),
    )


def _sockets() -> tuple[tuple[str, str], ...]:
    return (("NCCL_NET", "Socket"), ("NCCL_IB_DISABLE", "1"))
