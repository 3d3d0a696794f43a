"""The services of each Spark, reported from one probe."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult
from sparkfleet.plan.status import join_members, spark_status
from sparkfleet.probe.observation import Observed
from tests.unit.plan import fake_spark
from tests.unit.plan.cluster import cluster_fixtures
from tests.unit.plan.nano import CONVERGED, HOST


def test_a_service_is_reported_with_its_container_its_unit_and_what_its_gate_measured() -> None:
    measured = replace(CONVERGED.generations["nano"], gate_result=GateResult(360.4, 12.0))
    (nano,) = spark_status("spark-01", replace(CONVERGED, generations={"nano": measured})).services
    assert (nano.name, nano.port, nano.state, nano.unit) == ("nano", 8000, "running", "active running")
    assert nano.since == "2026-11-21T08:00:00Z"
    assert nano.generation == fake_spark.generation_of(HOST, HOST.services[0]).id
    assert nano.gate == GateResult(360.4, 12.0)


def test_a_service_whose_container_or_unit_is_gone_is_reported_as_absent() -> None:
    (nano,) = spark_status("spark-01", replace(CONVERGED, instances=(), units={})).services
    assert (nano.state, nano.unit, nano.since, nano.gate) == ("absent", "absent", "", None)


def test_a_container_without_a_record_is_reported_too() -> None:
    (nano,) = spark_status("spark-01", replace(CONVERGED, generations={})).services
    assert (nano.model, nano.port, nano.gate) == ("", 0, None)


def test_an_idle_spark_has_memory_and_a_broken_one_its_reason() -> None:
    idle = spark_status("spark-01", fake_spark.fresh(HOST))
    assert (idle.services, round(idle.total_gib, 1)) == ((), 119.7)
    diagnostic = Diagnostic("spark-01", "Docker down", code="test")
    assert spark_status("spark-01", diagnostic).unknown == diagnostic


def test_a_cluster_without_one_of_its_members_is_degraded_on_all() -> None:
    head = spark_status("spark-01", cluster_fixtures.converged(cluster_fixtures.host(0)))
    second = cluster_fixtures.converged(cluster_fixtures.host(1))
    stopped = replace(second, instances=tuple(replace(one, state="exited") for one in second.instances))
    diagnostic = Diagnostic("spark-02", "SSH connection refused", code="test")

    def lines(other: Observed | Diagnostic) -> list[str]:
        return [
            s.degraded for one in join_members([head, spark_status("spark-02", other)]) for s in one.services
        ]

    assert lines(second) == ["", ""]
    assert lines(stopped) == ["spark-02 exited", "spark-02 exited"]
    assert lines(diagnostic) == ["spark-02 is unknown"]
    assert lines(replace(second, instances=(), generations={})) == ["spark-02 absent"]
    assert [s.degraded for one in join_members([head]) for s in one.services] == [""]
