"""A service that was stopped on purpose: the plan says by whom, and leaves it as it is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.state import StopRecord
from sparkfleet.desired_state import Host
from sparkfleet.plan.as_json import plan_data
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeKind, HostPlan, HostState, Plan
from sparkfleet.plan.report import plan_text
from sparkfleet.plan.status import join_members as join_status
from sparkfleet.plan.status import spark_status
from sparkfleet.probe.observation import Observed, ObservedUnit
from tests.unit.plan import fake_spark, test_odd_state
from tests.unit.plan.cluster import cluster_fixtures
from tests.unit.plan.nano import CONVERGED, HOST, only_entry, rows, with_service

RECORD = StopRecord("ana@laptop", 1795000000.0, "a benchmark")


def stopped(seen: Observed, record: StopRecord = RECORD) -> Observed:
    """Return a host after ``sparkfleet stop`` of all its services."""
    return replace(
        seen,
        instances=tuple(replace(one, state="exited") for one in seen.instances),
        units={
            name: unit if "recover" in name else replace(unit, active="inactive", enabled="disabled")
            for name, unit in seen.units.items()
        },
        listeners={},
        stops=dict.fromkeys(seen.generations, record),
    )


def text(plan: HostPlan) -> str:
    return plan_text(Plan((plan,)))


def test_the_plan_names_who_stopped_a_service_and_does_not_start_it() -> None:
    plan = host_plan(HOST, stopped(CONVERGED))
    assert (plan.state, plan.change_sets) == (HostState.UNCHANGED, ())
    assert Plan((plan,)).exit_code == 0
    assert text(plan) == (
        "spark-01   no changes\n"
        "  = stopped     nano by ana@laptop since 2026-11-18 11:06 UTC   a benchmark\n"
        "0 to change, 1 unchanged\n"
    )
    (found,) = plan_data(Plan((plan,)))["hosts"][0]["stops"]
    assert (found["operator"], found["at"], found["reason"]) == ("ana@laptop", 1795000000.0, "a benchmark")


def test_a_service_that_is_down_without_a_record_is_started() -> None:
    entry = only_entry(HOST, replace(stopped(CONVERGED), stops={}))
    assert ("state", "", "exited", "serving") in rows(entry)


@pytest.mark.parametrize("changes", [{"port": 8001}, {"flags": ()}], ids=["port", "flags"])
def test_a_changed_declaration_of_a_stopped_service_is_named_and_waits_for_its_start(
    changes: dict[str, object],
) -> None:
    plan = host_plan(with_service(**changes), stopped(CONVERGED))
    assert plan.change_sets == ()
    (stop,) = plan.stops
    assert stop.differs == (("port",) if "port" in changes else ("flag",))
    assert "a benchmark; differs in" in text(plan)


def test_another_service_of_the_host_is_changed_meanwhile() -> None:
    other = replace(HOST.services[0], name="other", served_name="other", port=8001)
    both = replace(HOST, services=(*HOST.services, other))
    seen = replace(stopped(CONVERGED), images=fake_spark.converged(both).images)
    assert [one.subject for one in host_plan(both, seen).change_sets if one.subject != "host"] == ["other"]


@pytest.mark.parametrize("how", ["unit", "container"])
def test_a_service_that_was_started_by_hand_is_managed_again(how: str) -> None:
    down = stopped(CONVERGED)
    name = "sparkfleet-nano.service"
    units = {**CONVERGED.units, name: replace(CONVERGED.units[name], enabled="disabled")}
    seen = replace(down, instances=CONVERGED.instances, listeners=CONVERGED.listeners)
    seen = replace(seen, units=units) if how == "unit" else seen
    plan = host_plan(HOST, seen)
    assert plan.stops == ()
    (entry,) = plan.change_sets
    assert entry.kind is ChangeKind.UPDATE
    assert ("stop", "", "by ana@laptop 2026-11-18 11:06 UTC", "") in rows(entry)


def test_a_stopped_service_that_is_no_longer_declared_is_removed() -> None:
    entry = only_entry(Host("spark-01"), stopped(CONVERGED))
    assert entry.kind is ChangeKind.REMOVE


def test_a_record_that_cannot_be_read_leaves_the_service_unknown() -> None:
    with test_odd_state.state_directory() as folder:
        (folder / "services/nano/stop.json").write_text("[]")
        entry = test_odd_state.subject(test_odd_state.plan_of(test_odd_state.collected()), "nano")
    assert entry is not None
    assert entry.blocked is not None
    assert "services/nano/stop.json" in entry.blocked.message
    assert not entry.restarts_engine


def test_the_probe_reads_the_record_of_a_stop() -> None:
    with test_odd_state.state_directory() as folder:
        (folder / "services/nano/stop.json").write_text(json.dumps(RECORD.to_json()))
        assert test_odd_state.collected().stops == {"nano": RECORD}


@pytest.mark.parametrize("at", [float("inf"), float("nan"), 1e300])
def test_a_time_that_is_none_is_shown_as_unknown(at: float) -> None:
    assert "since an unknown time" in text(host_plan(HOST, stopped(CONVERGED, replace(RECORD, at=at))))


def members(*seen: Observed | Diagnostic) -> list[HostPlan]:
    hosts = [cluster_fixtures.host(rank) for rank in range(len(seen))]
    places = {one.name: one.member for one in hosts if one.member}
    plans = [host_plan(host, one) for host, one in zip(hosts, seen, strict=True)]
    return list(join_members(plans, places).values())


def test_a_cluster_that_is_stopped_on_one_member_is_left_on_all() -> None:
    first, second = (cluster_fixtures.converged(cluster_fixtures.host(rank)) for rank in (0, 1))
    down = replace(second, instances=tuple(replace(one, state="exited") for one in second.instances))
    assert all(one.change_sets for one in members(first, down))
    for plans in (members(stopped(first), stopped(second)), members(stopped(first), down)):
        assert [one.change_sets for one in plans] == [(), ()]
        assert [[stop.operator for stop in one.stops] for one in plans] == [["ana@laptop"], ["ana@laptop"]]


def test_an_unknown_member_of_a_stopped_cluster_stays_unknown() -> None:
    first = stopped(cluster_fixtures.converged(cluster_fixtures.host(0)))
    gone = Diagnostic("spark-02", "SSH connection refused", code="test")
    assert [one.state for one in members(first, gone)] == [HostState.UNCHANGED, HostState.UNKNOWN]


def test_the_status_of_a_stopped_service_has_its_record_and_is_not_degraded() -> None:
    (nano,) = spark_status("spark-01", stopped(CONVERGED)).services
    assert (nano.state, nano.stop) == ("stopped", RECORD)
    ranks = [stopped(cluster_fixtures.converged(cluster_fixtures.host(rank))) for rank in (0, 1)]
    found = [spark_status(f"spark-0{number}", seen) for number, seen in enumerate(ranks, start=1)]
    assert [one.degraded for spark in join_status(found) for one in spark.services] == ["", ""]


def test_a_unit_that_systemd_is_about_to_start_is_not_stopped() -> None:
    name = "sparkfleet-nano.service"
    down = stopped(CONVERGED)
    seen = replace(down, units={**down.units, name: ObservedUnit("...", active="activating")})
    assert not seen.is_stopped("nano")
    assert down.is_stopped("nano")
