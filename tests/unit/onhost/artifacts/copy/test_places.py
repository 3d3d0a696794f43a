"""Where a Spark says that others reach it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import command
from sparkfleet.contract.command import CommandResult
from sparkfleet.contract.transfer import Place
from sparkfleet.onhost.artifacts.copy import places

ROUTES = """\
Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


def netdev(name: str, address: str, flags: tuple[str, ...] = ("UP", "LOWER_UP")) -> dict[str, Any]:
    local, _, length = address.partition("/")
    return {"ifname": name, "flags": flags, "addr_info": [{"local": local, "prefixlen": int(length)}]}


SHOWN = [
    netdev("lo", "127.0.0.1/8"),
    netdev("eth0", "192.168.1.21/24"),
    netdev("docker0", "172.17.0.1/16"),
    netdev("enp1s0f1np1", "192.168.176.1/24"),
    netdev("enP2p1s0f1np1", "192.168.177.1/24", ("UP", "NO-CARRIER")),
    {},
]


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a Spark with a default route, two physical netdevs and no driver's name."""
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTES)
    for name in ("eth0", "enp1s0f1np1"):
        (tmp_path / "sys/class/net" / name / "device").mkdir(parents=True)
    outputs = {"ip": json.dumps(SHOWN), "ibdev2netdev": "rocep1s0f1 port 1 ==> enp1s0f1np1 (Up)\n"}

    def run(argv: list[str], _: float) -> CommandResult:
        return CommandResult(0, outputs[argv[0]]) if argv[0] in outputs else CommandResult(command.MISSING)

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(places, "__output", outputs, raising=False)
    return tmp_path


FABRIC = Place("enp1s0f1np1", "192.168.176.1/24", "fabric")
LAN = Place("eth0", "192.168.1.21/24", "lan")


def test_links_of_the_fabric_and_of_the_default_route_are_places_and_nothing_else(spark: Path) -> None:
    assert places.places(str(spark)) == (LAN, FABRIC)


def test_a_link_is_known_by_its_driver_where_the_kernel_tells(spark: Path) -> None:
    del getattr(places, "__output")["ibdev2netdev"]
    assert [place.kind for place in places.places(str(spark))] == ["lan"]
    (spark / "sys/class/net/enp1s0f1np1/device/driver").symlink_to("/sys/bus/pci/drivers/mlx5_core")
    assert places.places(str(spark)) == (LAN, FABRIC)


def test_without_a_default_route_the_physical_netdevs_are_the_lan(spark: Path) -> None:
    (spark / "proc/net/route").write_text(ROUTES.splitlines()[0])
    assert places.places(str(spark)) == (LAN, FABRIC)
