from __future__ import annotations

import ipaddress
from itertools import islice
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab.names import Lab
from sparkfleet_lab.networks import make_networks, make_ring, subnets, taken_subnets
from tests.unit.lab.recorder import Recorder

ROUTES = """\
Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0
eth0 0000A8C0 00000000 0001 0 0 0 0000FFFF 0 0 0
"""


def test_routes_of_this_machine_are_known_and_the_default_route_is_not_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "route"
    path.write_text(ROUTES)
    assert taken_subnets(path) == [ipaddress.IPv4Network("192.168.0.0/16")]
    assert taken_subnets(tmp_path / "none") == []


def test_subnets_in_use_are_passed_over(lab: Lab) -> None:
    first, second = islice(subnets(lab, []), 2)
    assert next(subnets(lab, [first])) == second


def test_a_subnet_that_another_docker_network_has_is_passed_over(lab: Lab) -> None:
    first = next(subnets(lab, taken_subnets()))
    create = f"network create --label io.sparkfleet.lab={lab.prefix} --subnet {first} "
    docker = Recorder(outputs={create: (1, "Pool overlaps with other one on this address space")})
    networks = make_networks(docker, lab)
    assert str(first) not in {network.subnet for network in networks}
    assert len({network.subnet for network in networks}) == 3


def test_the_management_network_comes_first_by_name_since_docker_takes_its_gateway_from_there(
    lab: Lab,
) -> None:
    names = [network.name for network in make_networks(Recorder(), lab)]
    assert min(names) == names[0] == f"{lab.prefix}-lan"


def test_each_cable_of_a_ring_is_two_networks_that_come_after_the_management_network_by_name(
    lab: Lab,
) -> None:
    found = make_ring(Recorder(), lab)
    assert len({network.subnet for network in found}) == 6
    assert all(network.name > f"{lab.prefix}-lan" for network in found)


def test_another_refusal_is_an_error_with_dockers_message(lab: Lab) -> None:
    docker = Recorder(
        outputs={"network create": (1, "all predefined address pools have been fully subnetted")}
    )
    with pytest.raises(SparkfleetError, match="fully subnetted"):
        make_networks(docker, lab)
