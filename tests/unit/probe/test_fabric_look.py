"""What a look at a Spark's links finds, in a file system and a network made up for it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.onhost.collectors import basics, commands, fabric
from sparkfleet.probe.links import Link, NetworkFile, ObservedFabric
from sparkfleet.probe.response import DISKS, read_response

PORTS = {"enp1s0f0np0": "p0", "enP2p1s0f0np0": "p0", "enp1s0f1np1": "p1", "enP2p1s0f1np1": "p1"}
PCI = {
    "enp1s0f0np0": "0000:01:00.0",
    "enP2p1s0f0np0": "0002:01:00.0",
    "enp1s0f1np1": "0000:01:00.1",
    "enP2p1s0f1np1": "0002:01:00.1",
}


class Spark:
    """A root directory with the kernel's files of a Spark, a cable in cage p1."""

    def __init__(self, root: Path, *, driver: bool = True) -> None:
        self.root = root
        self.addresses = {"enP7s7": ["192.168.1.21/24"], "docker0": ["172.17.0.1/16"]}
        (root / "sys/bus/pci/drivers/mlx5_core").mkdir(parents=True)
        for name, port in PORTS.items():
            net = root / "sys/class/net" / name
            net.mkdir(parents=True)
            self.write(f"sys/class/net/{name}/carrier", "1\n" if port == "p1" else "0\n")
            self.write(f"sys/class/net/{name}/mtu", "1500\n")
            self.write(f"sys/class/net/{name}/speed", "200000\n" if port == "p1" else "-1\n")
            if driver:
                self.write(f"sys/class/net/{name}/phys_port_name", f"{port}\n")
                rdma = "roce" + name.removeprefix("en").removesuffix(f"n{port}")
                device = root / "sys/devices" / PCI[name]
                (device / "infiniband" / rdma).mkdir(parents=True)
                (device / "driver").symlink_to(root / "sys/bus/pci/drivers/mlx5_core")
                (net / "device").symlink_to(device)
                state = "4: ACTIVE" if port == "p1" else "1: DOWN"
                self.write(f"sys/class/infiniband/{rdma}/ports/1/state", f"{state}\n")
        (root / "sys/class/net/enP7s7").mkdir()
        head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        default = "enP7s7\t00000000\t0101A8C0\t3\t0\t0\t0\t00000000\n"
        lan = "wlP9s9\t0000000A\t00000000\t1\t0\t0\t0\t00FFFFFF\n"
        self.write("proc/net/route", head + default + lan)
        self.write("dev/infiniband/uverbs0", "")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def look(self) -> ObservedFabric:
        return codec.read(
            ObservedFabric, json.loads(json.dumps(fabric.collect_fabric([], str(self.root)))), "fabric"
        )


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spark:
    made = Spark(tmp_path)
    monkeypatch.setattr(fabric, "_addresses", lambda: made.addresses)
    monkeypatch.setattr(fabric, "address_owners", lambda _names, _addresses: [])
    monkeypatch.setattr(basics, "which", lambda name: name == "netplan")
    return made


def test_each_link_is_seen_with_its_cage_its_root_its_rdma_device_and_whether_there_is_a_cable(
    spark: Spark,
) -> None:
    spark.addresses["enP2p1s0f1np1"] = ["192.168.177.1/24"]
    found = {link.name: link for link in spark.look().links}
    without_pci = {name: replace(link, pci="") for name, link in found.items()}
    assert without_pci["enP2p1s0f1np1"] == Link(
        "enP2p1s0f1np1", "p1", "", True, 1500, ("192.168.177.1/24",), "roceP2p1s0f1", "ACTIVE", 200000
    )
    assert without_pci["enp1s0f0np0"] == Link(
        "enp1s0f0np0", "p0", "", False, 1500, (), "rocep1s0f0", "DOWN", 0
    )
    places = {name: (link.cage, link.root) for name, link in found.items()}
    assert places["enP2p1s0f1np1"] == ("p1", 2)
    assert places["enp1s0f0np0"] == ("p0", 0)
    assert len(found) == 4


def test_single_addresses_that_are_reached_over_a_link_are_seen(spark: Spark) -> None:
    table = (spark.root / "proc/net/route").read_text()
    rows = (
        "enp1s0f1np1\t02B2A8C0\t02B0A8C0\t7\t0\t0\t0\tFFFFFFFF\n"  # 192.168.178.2 via 192.168.176.2
        "enp1s0f1np1\t00B0A8C0\t00000000\t1\t0\t0\t0\t00FFFFFF\n"  # the link's own network
        "enP7s7\t0101010A\t0101A8C0\t7\t0\t0\t0\tFFFFFFFF\n"
    )
    spark.write("proc/net/route", table + rows)
    found = {link.name: link.routes for link in spark.look().links if link.routes}
    assert found == {"enp1s0f1np1": ("192.168.178.2 via 192.168.176.2",)}


def test_a_link_that_is_off_has_an_unknown_carrier(spark: Spark) -> None:
    (spark.root / "sys/class/net/enp1s0f0np0/carrier").unlink()  # the kernel answers with an error then
    assert {link.name: link.carrier for link in spark.look().links}["enp1s0f0np0"] is None


def test_without_the_drivers_files_ibdev2netdev_and_the_names_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Spark(tmp_path, driver=False)
    monkeypatch.setattr(fabric, "_addresses", dict)
    monkeypatch.setattr(fabric, "address_owners", lambda _names, _addresses: [])
    monkeypatch.setattr(basics, "which", lambda name: name == "ibdev2netdev")
    pairs = (("mlx5_0", "enp1s0f1np1"), ("mlx5_1", "enP2p1s0f1np1"), ("mlx5_2", "gone0"))
    output = "".join(f"{rdma} port 1 ==> {name} (Up)\n" for rdma, name in pairs)
    monkeypatch.setattr(commands, "run", lambda *_: (0, output, ""))
    first, second = made.look().links
    assert (first.name, first.cage, first.root, first.rdma) == ("enP2p1s0f1np1", "p1", 2, "mlx5_1")
    assert (second.name, second.cage, second.root, second.rdma) == ("enp1s0f1np1", "p1", 0, "mlx5_0")


def test_a_spark_without_a_connectx7_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sys/class/net/eth0").mkdir(parents=True)
    monkeypatch.setattr(fabric, "_addresses", dict)
    monkeypatch.setattr(basics, "which", lambda _: False)
    seen = codec.read(ObservedFabric, fabric.collect_fabric([], str(tmp_path)), "fabric")
    assert (seen.links, seen.renderer, seen.verbs, seen.management) == ((), "", False, ())


def test_the_management_link_is_that_of_the_default_route(spark: Spark) -> None:
    seen = spark.look()
    assert (seen.management, seen.management_address) == (("enP7s7",), "192.168.1.21")


def test_the_link_by_which_ssh_came_in_is_management_too_and_comes_first(
    spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark.addresses["wlP9s9"] = ["10.0.0.7/24"]
    pid = 4711
    monkeypatch.setattr(os, "getppid", lambda: pid)
    spark.write(f"proc/{pid}/stat", f"{pid} (sh (x) y) S 777 1 1")
    spark.write("proc/777/stat", "777 (sudo) S 1 1 1")
    spark.write("proc/777/environ", "A=1\0SSH_CONNECTION=10.0.0.2 50000 10.0.0.7 22\0B=2")
    seen = spark.look()
    assert (seen.management, seen.management_address) == (("wlP9s9", "enP7s7"), "10.0.0.7")


def test_networks_of_other_netdevs_are_reported(spark: Spark) -> None:
    assert spark.look().networks == (("enP7s7", "192.168.1.21/24"), ("docker0", "172.17.0.1/16"))


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        (
            "etc/netplan/40-cx7.yaml",
            "network:\n  ethernets:\n    enp1s0f1np1: {dhcp4: no}\n",
            ("enp1s0f1np1",),
        ),
        ("etc/systemd/network/10-x.network", "[Match]\nName=enP2p1s0f1np1\n", ("enP2p1s0f1np1",)),
        ("etc/systemd/network/10-y.network", "[Match]\nDriver=mlx5_core\n", tuple(sorted(PORTS))),
        (
            "etc/NetworkManager/system-connections/fab.nmconnection",
            "[connection]\ninterface-name=enp1s0f0np0\n",
            ("enp1s0f0np0",),
        ),
        ("etc/network/interfaces.d/fab", "iface enp1s0f0np0 inet static\n", ("enp1s0f0np0",)),
    ],
    ids=["netplan", "networkd", "networkd by driver", "NetworkManager", "ifupdown"],
)
def test_files_of_others_that_configure_links_are_found(
    spark: Spark, path: str, text: str, names: tuple[str, ...]
) -> None:
    spark.write(path, text)
    assert spark.look().foreign == (NetworkFile(f"/{path}", names),)


def test_comments_other_links_and_our_own_file_are_no_files_of_others(spark: Spark) -> None:
    spark.write("etc/netplan/01-net.yaml", "# not enp1s0f1np1\nnetwork: {ethernets: {enp1s0f1np10: {}}}\n")
    spark.write("etc/netplan/60-sparkfleet-fabric.yaml", "network:\n  ethernets:\n    enp1s0f1np1: {}\n")
    (spark.root / "etc/netplan/60-sparkfleet-fabric.yaml").chmod(0o640)
    seen = spark.look()
    assert seen.foreign == ()
    assert seen.own is not None
    assert seen.own_mode == "0640"


@pytest.mark.parametrize(
    ("text", "running", "renderer"),
    [
        ("network:\n  version: 2\n  renderer: NetworkManager\n", False, "NetworkManager"),
        ("network:\n  renderer: NetworkManager\n  version: 2\n", False, "NetworkManager"),
        ('network:\n    "renderer": "NetworkManager"\n', False, "NetworkManager"),
        ("network:\n  renderer: networkd\n", True, "networkd"),
        ("network:\n  ethernets:\n    enP7s7:\n      renderer: NetworkManager\n", False, "networkd"),
        ("network: {version: 2}\n", True, "NetworkManager"),
        ("network: {version: 2}\n", False, "networkd"),
    ],
)
def test_the_renderer_is_what_netplans_files_say_or_what_runs(
    spark: Spark, text: str, running: bool, renderer: str
) -> None:
    spark.write("etc/netplan/01-net.yaml", text)
    if running:
        (spark.root / "run/NetworkManager").mkdir(parents=True)
    assert spark.look().renderer == renderer


def test_rdma_that_programs_cannot_use_is_reported(spark: Spark) -> None:
    assert spark.look().verbs
    (spark.root / "dev/infiniband/uverbs0").unlink()
    assert not spark.look().verbs


def test_a_fabric_that_cannot_be_read_makes_the_spark_unknown() -> None:
    data: dict[str, Any] = {
        "sudo": {"state": "ok"},
        "runtimes": {"docker": {"state": "ok"}},
        "systemd": {"state": "ok"},
        "state": {"generations": {}},
        "disks": {name: {"path": "/", "total": 1, "free": 1, "read_only": False} for name in DISKS},
        "paths": {},
        **{part: {} for part in ("user", "memory", "weights", "listeners", "toolkit")},
        "fabric": {"error": "FileNotFoundError: ip"},
    }
    seen = read_response("spark-01", json.dumps(data))
    assert isinstance(seen, Diagnostic)
    assert "fabric could not be read: FileNotFoundError: ip" in str(seen)
