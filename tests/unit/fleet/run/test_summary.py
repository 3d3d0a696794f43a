"""The last lines of a run: services with their addresses, counts that agree with the hosts, the time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Member
from sparkfleet.fleet.run.summary import Outcome
from sparkfleet.plan.address import service_url
from tests.unit.plan.nano import HOST, NANO

FAILED = (Diagnostic("spark-02", "no", code="test"),)
ADDRESSED = replace(HOST, services=(NANO,), ssh=(("ssh_hostname", "192.168.1.21"),))


def outcome(**values: object) -> Outcome:
    return replace(Outcome(("spark-01", "spark-02", "spark-03"), 372.0), **values)  # type: ignore[arg-type]


def test_each_service_has_its_address_and_what_became_of_it() -> None:
    found = outcome(
        declared={"spark-01": ADDRESSED, "spark-02": ADDRESSED, "spark-03": ADDRESSED},
        done={("spark-01", "nano"): "serves, gate passed", ("spark-01", "models"): "verified"},
        failures={"spark-02": FAILED},
    )
    url = f"http://192.168.1.21:{NANO.port}/v1"
    assert found.rows == (
        ("spark-01", "nano", url, "serves, gate passed"),
        ("spark-01", "models", "", "verified"),
        ("spark-03", "nano", url, "unchanged"),
    )


def test_the_last_line_counts_every_host_once() -> None:
    assert outcome().counts == "0 changed, 3 unchanged, in 6 min"
    changed = outcome(changed=frozenset({"spark-01"}), failures={"spark-02": FAILED})
    assert changed.counts == "1 changed, 1 unchanged, 1 failed, in 6 min"


def test_a_failure_outside_of_the_run_makes_no_count_negative() -> None:
    found = outcome(hosts=("spark-01",), failures={"spark-01": FAILED, "spark-02": FAILED})
    assert found.counts == "0 changed, 0 unchanged, 2 failed, in 6 min"


def test_a_service_that_was_stopped_on_purpose_has_no_address() -> None:
    found = outcome(declared={"spark-01": ADDRESSED}, stopped=frozenset({("spark-01", "nano")}))
    assert found.rows == (("spark-01", "nano", "", "stopped, unchanged"),)


def test_a_large_fleet_lists_the_services_that_changed() -> None:
    hosts = tuple(f"spark-{number:02}" for number in range(20))
    found = Outcome(hosts, 1.0, dict.fromkeys(hosts, ADDRESSED), {("spark-07", "nano"): "serves"})
    assert [row[0] for row in found.rows] == ["spark-07"]


@pytest.mark.parametrize(
    ("hostname", "shown"),
    [
        ("", "spark-01"),
        ("192.168.1.21", "192.168.1.21"),
        ("fe80::1", "[fe80::1]"),
        ("@local", "127.0.0.1"),
    ],
)
def test_an_address_is_that_of_the_connection(hostname: str, shown: str) -> None:
    ssh = (("ssh_hostname", hostname),) if hostname else ()
    assert service_url(Host("spark-01", ssh=ssh), NANO) == f"http://{shown}:{NANO.port}/v1"


def test_a_rank_that_serves_no_api_has_no_address() -> None:
    member = Member("pair", 1, ("spark-01", "spark-02"), "mp", service=NANO.name)
    assert service_url(Host("spark-02", member=member), NANO) == ""
    assert service_url(Host("spark-01", member=replace(member, rank=0)), NANO)
