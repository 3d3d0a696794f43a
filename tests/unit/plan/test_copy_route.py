"""Over which links one Spark sends to another."""

from __future__ import annotations

from sparkfleet.contract.transfer import Place
from sparkfleet.plan.copy_route import FAR, NEAR, Route, between


def place(kind: str, address: str) -> Place:
    return Place("x", address, kind)


def test_all_links_of_the_fabric_that_both_are_on_come_before_the_lan() -> None:
    sender = [
        place("lan", "192.168.1.21/24"),
        place("fabric", "192.168.176.1/24"),
        place("fabric", "192.168.177.1/24"),
        place("fabric", "192.168.178.1/24"),
    ]
    receiver = [
        place("fabric", "192.168.176.2/24"),
        place("fabric", "192.168.177.2/24"),
        place("lan", "192.168.1.22/24"),
    ]
    route = between(sender, receiver)
    assert route == Route(
        ((NEAR, "192.168.176.1"), (NEAR, "192.168.177.1"), (FAR, "192.168.1.21")),
        ("192.168.176.2", "192.168.177.2", "192.168.1.22"),
    )
    assert route.distance("192.168.177.1") == NEAR
    assert route.distance("192.168.1.21") == FAR


def test_sparks_without_a_common_fabric_use_the_lan_also_from_network_to_network() -> None:
    route = between(
        [place("lan", "10.1.0.1/24")], [place("lan", "10.2.0.1/24"), place("fabric", "1.2.3.4/24")]
    )
    assert route == Route(((FAR, "10.1.0.1"),), ("1.2.3.4", "10.2.0.1"))
