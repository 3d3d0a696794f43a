"""The links of a Spark's QSFP cages as the probe read them, typed."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Link:
    """One netdev of a QSFP cage. A cage shows as two of them (twins), one on each PCIe root."""

    name: str
    """Of the netdev: ``enp1s0f1np1``."""
    cage: str = ""
    """Port as the driver names it (``phys_port_name``): ``p0`` or ``p1``."""
    root: int = 0
    """PCI domain, which distinguishes twins: 0 for ``enp1s0f1np1``, 2 for ``enP2p1s0f1np1``."""
    carrier: bool | None = None
    """Whether the cable has a signal; None: unknown, because the link is down."""
    mtu: int = 0
    """Bytes."""
    addresses: tuple[str, ...] = ()
    """IPv4 with prefix length, as the kernel has them."""
    rdma: str = ""
    """Its RDMA device: ``rocep1s0f1``, on some releases ``mlx5_1``; "" without one."""
    rdma_state: str = ""
    """``ACTIVE``, ``DOWN`` ... of the RDMA device; "": unknown."""
    speed: int = 0
    """Mb/s; 0: unknown."""
    routes: tuple[str, ...] = ()
    """Host routes by way of another Spark: ``192.168.178.2 via 192.168.176.2``."""


@dataclass(frozen=True)
class AddressOwner:
    """Another host on the fabric that answers for an address."""

    address: str
    link: str
    mac: str


@dataclass(frozen=True)
class NetworkFile:
    """A file, not of sparkfleet, that configures a link of the fabric."""

    path: str
    links: tuple[str, ...]


@dataclass(frozen=True)
class FabricSeen:
    """The fabric of one Spark."""

    links: tuple[Link, ...] = ()
    management: tuple[str, ...] = ()
    """Netdevs of the default route and of the probe's connection; never touched."""
    management_address: str = ""
    """The Spark's address on the first of them, without prefix length."""
    networks: tuple[tuple[str, str], ...] = ()
    """Name and address with prefix length of every other netdev."""
    renderer: str = ""
    """What configures links: ``networkd`` or ``NetworkManager``; "": neither."""
    netplan: bool = False
    own: str | None = None
    """Text of sparkfleet's netplan file; None without it."""
    own_mode: str = ""
    foreign: tuple[NetworkFile, ...] = ()
    verbs: bool = False
    """Whether programs can use RDMA at all (``/dev/infiniband/uverbs*``)."""
    address_owners: tuple[AddressOwner, ...] = ()

    def link(self, name: str) -> Link | None:
        """Return the link of that name."""
        return next((link for link in self.links if link.name == name), None)


@dataclass(frozen=True)
class LinkPart:
    """One netdev as the probe reports it."""

    name: str
    port: str
    pci: str
    carrier: bool | None
    mtu: int
    addresses: tuple[str, ...]
    rdma: str
    rdma_state: str
    speed: int
    routes: tuple[str, ...]

    def link(self) -> Link:
        """Return the link, with cage and PCIe root by its name where the kernel does not know them."""
        domain = self.pci.partition(":")[0]
        return Link(
            name=self.name,
            cage=self.port or _cage_by_name(self.name),
            root=int(domain, 16) if re.fullmatch(r"[0-9a-f]+", domain) else _root_by_name(self.name),
            carrier=self.carrier,
            mtu=self.mtu,
            addresses=self.addresses,
            rdma=self.rdma,
            rdma_state=self.rdma_state,
            speed=max(0, self.speed),
            routes=self.routes,
        )


@dataclass(frozen=True)
class FabricPart:
    """The fabric as the probe reports it."""

    links: tuple[LinkPart, ...]
    management: tuple[str, ...]
    management_address: str
    networks: tuple[tuple[str, str], ...]
    renderer: str
    netplan: bool
    own: str | None
    own_mode: str
    foreign: tuple[NetworkFile, ...]
    verbs: bool
    address_owners: tuple[AddressOwner, ...]

    def seen(self) -> FabricSeen:
        """Return the fabric."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return FabricSeen(**{**values, "links": tuple(link.link() for link in self.links)})


def _cage_by_name(name: str) -> str:
    """Return the port within the netdev's name: ``enP2p1s0f1np1`` ends in ``n`` and the port."""
    found = re.search(r"n(p\d+)$", name)
    return found[1] if found else ""


def _root_by_name(name: str) -> int:
    found = re.match(r"enP(\d+)p", name)
    return int(found[1]) if found else 0
