"""The links of a Spark's QSFP cages as the probe read them, typed."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """One netdev of a QSFP cage. A cage shows as two of them (twins), one on each PCIe root."""

    name: str
    """Of the netdev: ``enp1s0f1np1``."""
    port: str = ""
    """Port as the driver names it (``phys_port_name``); "": it does not."""
    pci: str = ""
    """PCI address; "": unknown."""
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

    @property
    def cage(self) -> str:
        """Return ``p0`` or ``p1``; of a driver that does not name it, as in the netdev's name."""
        found = re.search(r"n(p\d+)$", self.name)
        return self.port or (found[1] if found else "")

    @property
    def root(self) -> int:
        """Return the PCI domain of a twin: 0 for ``enp1s0f1np1``, 2 for ``enP2p1s0f1np1``."""
        domain = re.match(r"[0-9a-f]+(?=:)", self.pci)
        found = re.match(r"enP(\d+)p", self.name)
        return int(domain[0], 16) if domain else int(found[1]) if found else 0


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
class ObservedFabric:
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
