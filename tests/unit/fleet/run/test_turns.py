"""With --serial, engines are replaced on one Spark or cluster after the other, up to the first failure."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract.generation import Rank
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.run.fleet_run import FleetRun
from sparkfleet.fleet.run.turns import SERIAL, name_of, turn
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeSet, HostPlan
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import HOST, rollout

CHANGE = rollout(host_plan(HOST, fake_spark.fresh(HOST)).change_sets[-1])
PAIR = ("spark-02", "spark-03")


def rank(number: int) -> ChangeSet:
    assert CHANGE.generation is not None
    own = Rank("pair", number, PAIR, ("10.0.0.1", "10.0.0.2"), "mp", "abc")
    return ChangeSet("wide", (replace(CHANGE, generation=replace(CHANGE.generation, rank=own)),))


@pytest.fixture
def run() -> FleetRun:
    """Three Sparks whose services change; the second and the third are a cluster."""
    own = ChangeSet("nano", (CHANGE,))
    sets = {"spark-01": (own,), "spark-02": (own, rank(0)), "spark-03": (rank(1),)}
    return FleetRun(plans={name: HostPlan(name, change_sets) for name, change_sets in sets.items()})


def act(run: FleetRun, name: str, *, serial: bool = True) -> Any:
    host = SimpleNamespace(name=name, data={SERIAL: "yes"} if serial else {})
    state = SimpleNamespace(inventory=[SimpleNamespace(name=one) for one in run.plans])
    return SimpleNamespace(run=run, host=host, state=state, progress=lambda *_: None)


def test_the_turn_of_an_operation_is_that_of_its_cluster_or_host() -> None:
    assert name_of(CHANGE, "spark-01") == "spark-01"
    assert name_of(rank(0).operations[0], "spark-02") == "cluster pair"


def test_turns_are_in_the_order_of_the_inventory_and_members_of_a_cluster_share_one(
    run: FleetRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = iter([("spark-01", "spark-01"), ("spark-02", "cluster pair"), ("spark-03", "cluster pair")])
    order: list[str] = []

    def sleep(_: float) -> None:
        host, name = next(waits)
        with turn(act(run, host), name):
            order.append(host)

    monkeypatch.setattr(time, "sleep", sleep)
    with turn(act(run, "spark-02"), "spark-02"):
        order.append("spark-02 itself")
    assert order == ["spark-01", "spark-02", "spark-03", "spark-02 itself"]


def test_a_host_that_failed_earlier_in_the_run_is_not_waited_for(
    run: FleetRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    run.failures["spark-01"] = ()
    with turn(act(run, "spark-03"), "cluster pair"), turn(act(run, "spark-02"), "cluster pair"):
        pass


@pytest.mark.provokes("run-stopped")
def test_after_a_failure_no_other_host_is_changed(run: FleetRun) -> None:
    with pytest.raises(ValueError, match="no room"), turn(act(run, "spark-01"), "spark-01"):
        raise ValueError("no room")
    with pytest.raises(executor.FailedError) as failed, turn(act(run, "spark-02"), "cluster pair"):
        pytest.fail("it changes")
    (diagnostic,) = failed.value.diagnostics
    assert diagnostic.code == "run-stopped"
    assert diagnostic.message == "spark-01 failed before; nothing was changed here"


def test_without_the_option_all_hosts_change_at_the_same_time_whatever_fails(run: FleetRun) -> None:
    run.turns.failed.append("spark-01")
    with turn(act(run, "spark-03", serial=False), "cluster pair"):
        assert run.turns.ended == set()
