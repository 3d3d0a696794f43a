"""What a Spark is asked to make of its links, as JSON; and the file that says so to netplan."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

NETPLAN_FILE = "60-sparkfleet-fabric.yaml"
MARK = "# Written by sparkfleet"
"""First words of our file: what has them is ours."""
MODE = 0o600
"""netplan warns of files that others can read."""


@dataclass(frozen=True)
class Peer:
    """Another Spark at the other end of a rail."""

    name: str
    link: str
    """Netdev here by which it is reached."""
    address: str


@dataclass(frozen=True)
class FabricRequest:
    """The links of one Spark as they shall be."""

    id: str = ""
    cluster: str = ""
    text: str = ""
    """Of the netplan file; "" removes it."""
    addresses: tuple[tuple[str, str], ...] = ()
    """Netdev and its one address with prefix length."""
    rdma: tuple[tuple[str, str], ...] = ()
    """Netdev and its RDMA device; links without one are left out."""
    mtu: int = 0
    drop: tuple[tuple[str, str], ...] = ()
    """Netdev and address of what goes: as the plan listed it."""
    management: tuple[str, ...] = ()
    """Netdevs that must stay as they are, beside those of default routes."""
    renderer: str = ""
    """``networkd`` or ``NetworkManager``; "": the one of the last time."""
    peers: tuple[Peer, ...] = ()
    wait_s: float = 45.0
    """Seconds until everything must answer; then all is put back."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FabricRequest:
        """Return the request that ``to_json`` wrote. Raise ValueError for another thing."""
        if not re.fullmatch(r"fabric-[a-z0-9-]{1,50}", str(data.get("id"))):
            raise ValueError(f"bad id {data.get('id')!r}")
        try:
            return cls(
                **{
                    **data,
                    **{key: tuple((a, b) for a, b in data[key]) for key in ("addresses", "rdma", "drop")},
                    "management": tuple(data["management"]),
                    "peers": tuple(Peer(**peer) for peer in data["peers"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a request for the fabric: {error}") from None


def links_of(text: str) -> tuple[str, ...]:
    """Return the netdevs that a file of ours names; () for a file of somebody else."""
    return tuple(re.findall(r"^    (\S+):$", text, re.MULTILINE)) if text.startswith(MARK) else ()
