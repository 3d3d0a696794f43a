"""Profiles of NetworkManager that ask for an address on a QSFP cage in vain: found, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Member
from sparkfleet.onhost.collectors import profiles
from sparkfleet.plan.preflight.checks import preflight
from sparkfleet.plan.preflight.model import State
from tests.unit.plan.nano import HOST
from tests.unit.plan.preflight.preflight_results import seen

LINK = "enp1s0f1np1"
DEFAULT = f"""[connection]
id=Wired connection 2
uuid=u-2
type=ethernet
interface-name={LINK}

[ipv4]
method=auto
"""
MANAGED = "[device]\nmanaged=true\n"
MAC = "48:b0:2d:00:00:04"


def spark(
    root: Path,
    profile: str,
    *,
    link: str = LINK,
    carrier: str = "1",
    device: str = "[device]\nmanaged=true\n",
) -> Path:
    """Write the files of a Spark with one link and one profile."""
    netdev = root / "sys/class/net" / link
    netdev.mkdir(parents=True)
    for name, text in {"carrier": carrier, "ifindex": "4", "address": MAC}.items():
        (netdev / name).write_text(f"{text}\n")
    folder, devices = root / "run/NetworkManager/system-connections", root / "run/NetworkManager/devices"
    folder.mkdir(parents=True)
    devices.mkdir()
    (folder / "Wired connection 2.nmconnection").write_text(profile)
    if device:
        (devices / "4").write_text(device)
    return root


def found(root: Path) -> list[dict[str, str]]:
    return profiles.collect_profiles(str(root))["waiting"]


ASKS = {
    "the default of a link": DEFAULT,
    "a profile without IPv4 settings": DEFAULT.replace("[ipv4]\nmethod=auto\n", ""),
    "the old name of its type": DEFAULT.replace("type=ethernet", "type=802-3-ethernet"),
    "a pattern": DEFAULT.replace(f"interface-name={LINK}", "\n[match]\ninterface-name=eth0;en*;"),
    "a MAC address": DEFAULT.replace(f"interface-name={LINK}", "\n[ethernet]\nmac-address=48:B0:2D:00:00:04"),
}


@pytest.mark.parametrize("text", ASKS.values(), ids=ASKS)
def test_a_profile_that_asks_in_vain_is_found(tmp_path: Path, text: str) -> None:
    (one,) = found(spark(tmp_path, text))
    assert (one["link"], one["name"], one["uuid"]) == (LINK, "Wired connection 2", "u-2")
    assert one["path"].startswith("/run/NetworkManager/")


QUIET = {
    "IPv4 is off": DEFAULT.replace("method=auto", "method=disabled"),
    "a manual address": DEFAULT.replace("method=auto", "method=manual\naddress1=192.168.177.1/24"),
    "it does not start by itself": DEFAULT.replace("type=ethernet", "type=ethernet\nautoconnect=false"),
    "another link": DEFAULT.replace(LINK, "enP7s7"),
    "another MAC address": DEFAULT.replace(
        f"interface-name={LINK}", "\n[ethernet]\nmac-address=48:B0:2D:00:00:05"
    ),
    "any link": DEFAULT.replace(f"interface-name={LINK}\n", ""),
    "a wireless network": DEFAULT.replace("type=ethernet", "type=wifi"),
    "no text": "",
}


@pytest.mark.parametrize("text", QUIET.values(), ids=QUIET)
def test_a_profile_that_does_not_is_not(tmp_path: Path, text: str) -> None:
    assert found(spark(tmp_path, text)) == []


@pytest.mark.parametrize(
    "state",
    [
        {"carrier": "0"},
        {"link": "enP7s7"},
        {"device": "[device]\nmanaged=false\n"},
        {"device": "[device]\nmanaged=true\nconnection-uuid=another\n"},
        {"device": ""},
    ],
    ids=["no cable", "no cage", "not managed", "another profile is active", "no NetworkManager"],
)
def test_a_link_that_waits_for_nothing_is_left_alone(tmp_path: Path, state: dict[str, str]) -> None:
    text = DEFAULT.replace(LINK, state.get("link", LINK))
    assert found(spark(tmp_path, text, **state)) == []


def test_a_link_is_of_a_cage_by_its_driver_too(tmp_path: Path) -> None:
    root = spark(tmp_path, DEFAULT.replace(LINK, "fab0"), link="fab0")
    (root / "drivers/mlx5_core").mkdir(parents=True)
    (root / "sys/class/net/fab0/device").mkdir()
    (root / "sys/class/net/fab0/device/driver").symlink_to(root / "drivers/mlx5_core")
    assert [one["link"] for one in found(root)] == ["fab0"]


def test_a_key_in_a_profile_stays_on_the_spark(tmp_path: Path) -> None:
    assert "canary" not in json.dumps(found(spark(tmp_path, f"{DEFAULT}\n[wifi-security]\npsk=canary\n")))


def check(
    path: str = "/run/NetworkManager/system-connections/x.nmconnection", member: Member | None = None
) -> Diagnostic:
    waiting = [{"path": path, "name": "Wired connection 2", "uuid": "u-2", "link": LINK}]
    checks = preflight(replace(HOST, member=member), seen(preflight__profiles={"waiting": waiting})).checks
    (row,) = (one for one in checks if one.name == "NetworkManager")
    assert row.state is State.WARN
    assert row.diagnostic is not None
    return row.diagnostic


@pytest.mark.provokes("network-profile-waits")
def test_the_row_names_profile_and_link_and_the_command_that_ends_it() -> None:
    found = check()
    assert found.message == f"'Wired connection 2' asks for an address by DHCP on {LINK}, and gets none"
    assert "nmcli connection modify u-2 ipv4.method disabled" in found.hint


def test_where_netplan_or_the_declared_fabric_owns_the_link_the_remedy_is_theirs() -> None:
    assert (
        "netplan generate"
        in check(f"/run/NetworkManager/system-connections/netplan-{LINK}.nmconnection").hint
    )
    declared = Member("pair", 0, ("spark-01", "spark-02"), "mp")
    assert check(member=declared).hint == "pyinfra INVENTORY deploys/fabric.py gives the link its address"


def test_profiles_that_cannot_be_read_are_unknown_and_not_absent() -> None:
    checks = preflight(HOST, seen(preflight__profiles={"error": "PermissionError"})).checks
    assert [one.state for one in checks if one.name == "NetworkManager"] == [State.UNKNOWN]
