"""The comparison of a preflight's hosts: rows of all, and checks of members and of shared identities."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sparkfleet.desired_state import Fabric, Host, Member
from sparkfleet.plan.parity import Row
from sparkfleet.plan.preflight.checks import preflight
from sparkfleet.plan.preflight.model import Check, State
from sparkfleet.plan.preflight.parity import FleetPreflight, fleet_preflight
from tests.unit.config.fleet_files import image_of
from tests.unit.plan.fabric.fabric_fixtures import seen as cabled
from tests.unit.plan.nano import HOST, NANO
from tests.unit.plan.preflight.preflight_results import data, seen

NAMES = ("spark-01", "spark-02")


def member(rank: int) -> Host:
    own = Member("pair", rank, NAMES, "mp", Fabric(), "nano")
    nano = replace(NANO, image=replace(image_of(NANO), cuda="13.0.2"))
    return replace(HOST, name=NAMES[rank], services=(nano,), member=own)


def machine(number: int, **texts: str) -> dict[str, Any]:
    """Return the part of a Spark with an identity of its own."""
    own = data()["machine"]
    identity = {"/etc/machine-id": f"{number}" * 32}
    return {**own, "name": NAMES[number - 1], "texts": {**own["texts"], **identity, **texts}}


def checked(first: dict[str, Any], second: dict[str, Any], *, cluster: bool = True) -> FleetPreflight:
    hosts = [member(0), member(1)]
    if not cluster:
        hosts = [replace(host, member=None) for host in hosts]
    links = asdict(cabled())
    responses = [
        seen(**{"machine": machine(n), "fabric": links, **changes})
        for n, changes in enumerate((first, second), 1)
    ]
    found = [preflight(host, response) for host, response in zip(hosts, responses, strict=True)]
    named = dict(zip(NAMES, hosts, strict=True))
    return fleet_preflight(found, named, dict(zip(reversed(NAMES), reversed(responses), strict=True)))


def differing(found: FleetPreflight) -> dict[str, Row]:
    return {one.name: one for one in found.parity if not one.is_equal}


def wrong(found: FleetPreflight) -> list[list[Check]]:
    return [[check for check in one.checks if check.state is not State.OK] for one in found.hosts]


def part(name: str, **changes: Any) -> dict[str, Any]:
    return {f"preflight__{name}": {**data()["preflight"][name], **changes}}


def test_hosts_that_are_alike_differ_in_nothing_and_every_property_has_a_row() -> None:
    found = checked({}, {})
    assert differing(found) == {}
    assert [len(one) for one in wrong(found)] == [0, 0]
    assert [one.name for one in found.parity] == [
        "DGX OS", "kernel", "boot parameters", "GPU driver", "GPU driver flavour", "ConnectX-7 firmware",
        "CUDA of the driver", "memory", "Docker", "storage driver", "GPU clocks at boot",
        "image nvcr.io/nvidia/vllm:26.04-py3",
    ]  # fmt: skip
    assert found.parity[1].values == (("6.17.0-1032-nvidia", NAMES),)


def test_members_that_differ_have_a_warning_each_and_a_row_in_the_inventorys_order() -> None:
    found = checked({"machine": {**machine(1), "kernel": "7.0.0-1019-nvidia"}}, {})
    assert differing(found)["kernel"].values == (
        ("7.0.0-1019-nvidia", ("spark-01",)),
        ("6.17.0-1032-nvidia", ("spark-02",)),
    )
    for (check,) in wrong(found):
        assert (check.name, check.state) == ("cluster pair", State.WARN)
        assert "kernel: 7.0.0-1019-nvidia on spark-01, 6.17.0-1032-nvidia on spark-02" in check.found


def test_hosts_outside_of_clusters_may_differ() -> None:
    found = checked({}, {"machine": {**machine(2), "kernel": "7.0.0-1019-nvidia"}}, cluster=False)
    assert list(differing(found)) == ["kernel"]
    assert [len(one) for one in wrong(found)] == [0, 0]


def test_an_update_over_the_air_counts_more_than_the_image_of_the_factory() -> None:
    dgx = {"DGX_SWBUILD_VERSION": "7.3.1", "DGX_OTA_VERSION": "7.6.1"}
    found = checked({}, part("system", dgx=dgx))
    assert differing(found)["DGX OS"].text == "7.6.0 on spark-01, 7.6.1 on spark-02"


def test_docker_may_differ_and_the_clocks_of_members_may_not() -> None:
    unit = {"/etc/systemd/system/spark-gpu.service": ["-lgc 300,2200"]}
    found = checked(part("engine", version="29.6.2"), part("footprints", clocks=unit))
    assert differing(found)["Docker"].text == "29.6.2 on spark-01, 28.3.3 on spark-02"
    assert differing(found)["GPU clocks at boot"].text == "none on spark-01, 300,2200 on spark-02"
    assert [check.found.partition(":")[0] for check in wrong(found)[0]] == ["GPU clocks at boot"]


def test_what_could_not_be_read_is_unknown_and_never_equal() -> None:
    found = checked({}, {"machine": {"error": "OSError"}, "preflight__gpu": {"error": "no NVML"}})
    rows = differing(found)
    assert {"kernel", "boot parameters", "GPU driver", "CUDA of the driver"} <= set(rows)
    assert not any(one.differs for one in rows.values())
    assert rows["CUDA of the driver"].unknown == (("spark-02", "no NVML"),)
    assert not any("cluster" in check.name for own in wrong(found) for check in own)


def test_a_shared_identity_fails_on_each_of_its_hosts() -> None:
    shared = {
        "/etc/machine-id": "1" * 32,
        "/etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAAC3Nz root@x\n",
    }
    found = checked({"machine": machine(1, **shared)}, {"machine": machine(2, **shared)}, cluster=False)
    for own in wrong(found):
        assert [(check.name, check.state) for check in own] == [
            ("machine-id", State.FAIL),
            ("SSH host key", State.FAIL),
        ]
        assert all(check.diagnostic and "spark-01, spark-02" in check.diagnostic.location for check in own)


def test_a_single_host_is_not_compared() -> None:
    host = replace(HOST, member=None)
    found = fleet_preflight([preflight(host, seen())], {host.name: host}, {host.name: seen()})
    assert found.parity == ()
