"""A Spark's network in memory: what ip, netplan, networkctl, nmcli and ping do and say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet.onhost.fabric import netplan
from sparkfleet.onhost.machine.system import CommandResult, Paths

MTU = 9000


class PowerCut(BaseException):
    """The Spark went off: nothing of the program may catch this."""


@dataclass
class Netdev:
    addresses: list[str] = field(default_factory=list)
    mtu: int = 1500
    up: bool = True
    carrier: bool = True
    routes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Network:
    """Stands for ``System`` as far as the change of links needs it."""

    root: Path
    netdevs: dict[str, Netdev] = field(
        default_factory=lambda: {
            "enP7s7": Netdev(
                ["192.168.1.21/24"], routes=[{"dst": "default", "gateway": "192.168.1.1", "metric": 100}]
            ),
            "fab0": Netdev(),
            "fab1": Netdev(["10.9.9.9/24"]),
        }
    )
    passes: int = MTU
    """Bytes that come back from a peer; 0: nobody answers."""
    ran: list[tuple[str, ...]] = field(default_factory=list)
    hook: Callable[[tuple[str, ...]], None] = lambda _: None
    """Called after each command."""
    networkd: str = "inactive"
    refuses: str = ""
    unit: str = "inactive"
    clock: float = 1000.0
    on_sleep: Callable[[float], None] = lambda _: None

    def __post_init__(self) -> None:
        netplan, rdma = self.root / "etc/netplan", self.root / "sys/class/infiniband"
        self.paths = Paths(state=self.root / "state", netplan=netplan, rdma=rdma)
        self.paths.netplan.mkdir(parents=True)
        (self.paths.netplan / "01-theirs.yaml").write_text("network: {version: 2}\n")

    def now(self) -> float:
        return self.clock

    def monotonic(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
        self.on_sleep(self.clock)

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        self.ran.append(tuple(argv))
        done = self._run(list(argv))
        self.hook(tuple(argv))
        return done

    @property
    def text(self) -> str:
        return netplan.own_text(self)  # type: ignore[arg-type]

    def _run(self, argv: list[str]) -> CommandResult:
        match argv:
            case ["ip", "-j", "address", "show", "dev", name]:
                return self._shown(name)
            case ["ip", "-j", "-4", "route", "show", "dev", name]:
                return CommandResult(0, json.dumps(self.netdevs[name].routes))
            case ["ip", "-j", "-4", "route", "show", "default"]:
                found = [(name, one) for name, netdev in self.netdevs.items() for one in netdev.routes]
                return CommandResult(0, json.dumps([{**one, "dev": name} for name, one in found]))
            case ["ip", "address", "add", one, "dev", name]:
                self.netdevs[name].addresses.append(one)
            case ["ip", "address", "del", one, "dev", name]:
                if one not in self.netdevs[name].addresses:
                    return CommandResult(2, err="RTNETLINK answers: Cannot assign requested address")
                self.netdevs[name].addresses.remove(one)
            case ["ip", "link", "set", "dev", name, "mtu", mtu]:
                self.netdevs[name].mtu = int(mtu)
            case ["ip", "link", "set", "dev", name, "up"]:
                self.netdevs[name].up = True
            case ["ip", "route", "replace", "default", "via", gateway, *_, "dev", name]:
                self.netdevs[name].routes.append({"dst": "default", "gateway": gateway, "metric": 100})
            case ["netplan", "generate", *_]:
                return CommandResult(1, err=self.refuses) if self.refuses else CommandResult(0)
            case ["networkctl", "reconfigure", name]:
                self._configure(name)
            case ["nmcli", "connection", "up", name]:
                self._configure(name.removeprefix("netplan-"))
            case ["systemctl", "is-active", netplan.NETWORKD]:
                return CommandResult(0, self.networkd)
            case ["systemctl", "is-active", _]:
                return CommandResult(0, self.unit)
            case ["systemctl", "start", netplan.NETWORKD]:
                self.networkd = "active"
            case ["systemctl", "stop", *_]:
                self.networkd = "inactive"
            case ["networkctl", "reload"] | ["nmcli", "connection", "reload"] | ["systemd-run", *_]:
                pass
            case ["ping", *options, _]:
                return CommandResult(0 if int(options[options.index("-s") + 1]) + 28 <= self.passes else 1)
            case _:
                raise AssertionError(f"a command that this network does not know: {argv}")
        return CommandResult(0)

    def _shown(self, name: str) -> CommandResult:
        if name not in self.netdevs:
            return CommandResult(1, err=f'Device "{name}" does not exist.')
        seen = self.netdevs[name]
        addresses = [
            {"family": "inet", "local": one.partition("/")[0], "prefixlen": int(one.partition("/")[2])}
            for one in seen.addresses
        ]
        flags = [*(["UP"] if seen.up else []), *([] if seen.carrier else ["NO-CARRIER"])]
        shown = {"flags": flags, "mtu": seen.mtu, "addr_info": addresses}
        return CommandResult(0, json.dumps([shown]))

    def _configure(self, name: str) -> None:
        """Do as networkd does: what the file says and nothing else; a link without a file is left alone."""
        block = re.search(rf"^    {name}:\n((?:      .*\n)+)", self.text, re.MULTILINE)
        if block:
            self.netdevs[name].addresses = re.findall(r"addresses: \[(.*)\]", block[1])
            self.netdevs[name].mtu = int(re.findall(r"mtu: (\d+)", block[1])[0])
