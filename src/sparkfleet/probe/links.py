"""The links of a Spark's QSFP cages as the probe saw them, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Link:
    """One netdev of a QSFP cage. A cage shows as two of them (twins), one on each PCIe root."""

    name: str
    """Of the netdev: ``enp1s0f1np1``."""
    cage: str = ""
    """Port as the driver names it (``phys_port_name``): ``p0`` or ``p1``."""
    root: int = 0
    """PCI domain, by which twins are told apart: 0 for ``enp1s0f1np1``, 2 for ``enP2p1s0f1np1``."""
    carrier: bool | None = None
    """Whether something answers at the other end; None: the link is switched off, so nobody can tell."""
    mtu: int = 0
    """Bytes."""
    addresses: tuple[str, ...] = ()
    """IPv4 with prefix length, as the kernel has them."""
    rdma: str = ""
    """Its RDMA device: ``rocep1s0f1``, on some releases ``mlx5_1``; "" when there is none."""
    rdma_state: str = ""
    """``ACTIVE``, ``DOWN`` ... of the RDMA device; "" when the kernel does not tell."""
    speed: int = 0
    """Mb/s, 0 when not known."""
    routes: tuple[str, ...] = ()
    """Single addresses that are reached over it by another Spark: ``192.168.178.2 via 192.168.176.2``."""


@dataclass(frozen=True)
class AddressOwner:
    """Somebody else on the fabric who answers for an address."""

    address: str
    link: str
    mac: str


@dataclass(frozen=True)
class NetworkFile:
    """A file of another tool, or of a person, that configures a link of the fabric."""

    path: str
    links: tuple[str, ...]


@dataclass(frozen=True)
class FabricSeen:
    """What is there of the fabric on one Spark."""

    links: tuple[Link, ...] = ()
    management: tuple[str, ...] = ()
    """Netdevs of the default route and of the connection that looked; never touched."""
    management_address: str = ""
    """The Spark's address there, without prefix length."""
    networks: tuple[tuple[str, str], ...] = ()
    """Name and address with prefix length of every netdev that is no link of the fabric."""
    renderer: str = ""
    """What configures links here: ``networkd`` or ``NetworkManager``; "": neither."""
    netplan: bool = False
    own: str | None = None
    """Text of the file that we wrote; None when it is not there."""
    own_mode: str = ""
    foreign: tuple[NetworkFile, ...] = ()
    verbs: bool = False
    """Whether programs can use RDMA at all (``/dev/infiniband/uverbs*``)."""
    held: tuple[AddressOwner, ...] = ()

    def link(self, name: str) -> Link | None:
        """Return the link of that name."""
        return next((link for link in self.links if link.name == name), None)


def read(data: Mapping[str, Any]) -> FabricSeen:
    """Return what the probe's part ``fabric`` says."""
    return FabricSeen(
        links=tuple(_link(seen) for seen in data["links"]),
        management=tuple(data["management"]),
        management_address=data["management_address"],
        networks=tuple((name, address) for name, address in data["networks"]),
        renderer=data["renderer"],
        netplan=data["netplan"],
        own=data["own"],
        own_mode=data["own_mode"],
        foreign=tuple(NetworkFile(seen["path"], tuple(seen["links"])) for seen in data["foreign"]),
        verbs=data["verbs"],
        held=tuple(AddressOwner(**seen) for seen in data["held"]),
    )


def _link(seen: Mapping[str, Any]) -> Link:
    name, pci = seen["name"], seen["pci"]
    return Link(
        name=name,
        cage=seen["port"] or _cage_by_name(name),
        root=int(pci.partition(":")[0], 16) if pci else _root_by_name(name),
        carrier=seen["carrier"],
        mtu=seen["mtu"],
        addresses=tuple(seen["addresses"]),
        rdma=seen["rdma"],
        rdma_state=seen["rdma_state"],
        speed=max(0, seen["speed"]),
        routes=tuple(seen["routes"]),
    )


def _cage_by_name(name: str) -> str:
    """Return the port that systemd wrote into the name: ``enP2p1s0f1np1`` ends in ``n`` and the port."""
    found = re.search(r"n(p\d+)$", name)
    return found[1] if found else ""


def _root_by_name(name: str) -> int:
    found = re.match(r"enP(\d+)p", name)
    return int(found[1]) if found else 0
