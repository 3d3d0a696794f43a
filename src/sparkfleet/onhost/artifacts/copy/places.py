"""Addresses at which other hosts reach this Spark: those of its fabric links and of its LAN."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

from sparkfleet.contract import command
from sparkfleet.contract.transfer import FABRIC, LAN, Place

DRIVER = "mlx5_core"
COMMAND_S = 20.0


def places(root: str = "/") -> tuple[Place, ...]:
    """Return the addresses of each link that is up."""
    addresses = _addresses()
    fabric = _fabric(root, addresses)
    lan = set(_default_routes(root)) or {name for name in addresses if _is_physical(root, name)}
    return tuple(
        Place(name, address, FABRIC if name in fabric else LAN)
        for name in addresses
        if name in fabric | lan
        for address in addresses[name]
    )


def _addresses() -> dict[str, list[str]]:
    """Return the IPv4 addresses of each netdev that has a carrier."""
    shown = command.run(["ip", "-j", "-4", "address", "show", "up"], COMMAND_S)
    if shown.code:
        raise OSError(f"ip: {shown.text}")
    return {
        netdev["ifname"]: [f"{one['local']}/{one['prefixlen']}" for one in netdev.get("addr_info", ())]
        for netdev in json.loads(shown.out or "[]")
        if netdev.get("ifname") and "LOWER_UP" in netdev.get("flags", ()) and netdev["ifname"] != "lo"
    }


def _fabric(root: str, names: Iterable[str]) -> set[str]:
    """Return the netdevs of the ConnectX-7, by their driver or from ``ibdev2netdev``."""
    found = set()
    for name in names:
        driver = os.path.join(root, "sys/class/net", name, "device/driver")
        if os.path.basename(os.path.realpath(driver)) == DRIVER:
            found.add(name)
    if found:
        return found
    return set(re.findall(r"==> (\S+)", command.run(["ibdev2netdev"], COMMAND_S).out))


def _default_routes(root: str) -> list[str]:
    with open(os.path.join(root, "proc/net/route"), encoding="ascii") as file:
        rows = [line.split() for line in file.read().splitlines()[1:]]
    return [row[0] for row in rows if row[1] == row[7] == "00000000"]


def _is_physical(root: str, name: str) -> bool:
    return os.path.exists(os.path.join(root, "sys/class/net", name, "device"))
