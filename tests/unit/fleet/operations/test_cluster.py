"""The members of a cluster begin together: with one id and one token, or not at all."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Rank, RolloutRequest
from sparkfleet.fleet.operations import cluster
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.run.fleet_run import ClusterStop, FleetRun
from sparkfleet.plan.model import ChangeSet, HostPlan
from sparkfleet.plan.operations import StopService

HOSTS = ("spark-01", "spark-02")


class Act:
    """One host of a run, as far as a meeting asks it."""

    def __init__(self, run: FleetRun, number: int) -> None:
        self.run, self.host = run, SimpleNamespace(name=HOSTS[number])
        self.rank = Rank("pair", number, HOSTS, ("10.0.0.1", "10.0.0.2"), "mp", "abc")

    def progress(self, *_: object) -> None:
        """Nobody looks."""

    def stop(self, order: list[int]) -> None:
        me: Any = self
        with cluster.stop_order(me, self.rank):
            order.append(self.rank.rank)

    def join(self) -> RolloutRequest:
        me: Any = self
        return cluster.coordinate(me, RolloutRequest(f"own-{self.rank.rank}", None, ()), self.rank)


def diagnostic(act: Act) -> Diagnostic:
    with pytest.raises(executor.FailedError) as failed:
        act.join()
    return failed.value.diagnostics[0]


def test_all_members_get_the_id_and_the_token_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FleetRun()
    first, second = Act(run, 0), Act(run, 1)
    found: list[RolloutRequest] = []
    monkeypatch.setattr(time, "sleep", lambda _: found.append(second.join()))
    found.append(first.join())
    assert {one.id for one in found} == {"own-0"}
    assert len({one.cluster_key for one in found}) == 1
    assert found[0].cluster_key


def test_a_member_that_failed_before_is_named_with_its_cause() -> None:
    run = FleetRun(
        failures={"spark-02": (Diagnostic("spark-02: image", "no space left on device\nwords", code="test"),)}
    )
    found = diagnostic(Act(run, 0))
    assert found.location == "spark-01: cluster pair"
    assert found.message == "spark-02 is not ready: no space left on device; nothing was touched"
    assert found.hint == "fix spark-02, then run again"


@pytest.mark.provokes("cluster-member-not-ready")
def test_a_member_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT_S", 0.0)
    found = diagnostic(Act(FleetRun(), 0))
    assert found.message == "spark-02 not ready within 0 s; nothing was touched"


def stopping(*names: str) -> FleetRun:
    """Return a run that stops the cluster on these members."""
    own = ChangeSet("wide", (StopService("wide", changes=()),), cluster="pair")
    return FleetRun(plans={name: HostPlan(name, (own,) if name in names else ()) for name in HOSTS})


def test_the_head_stops_first_and_only_when_every_member_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    run = stopping(*HOSTS)
    head, order, polls = Act(run, 0), list[int](), list[float]()

    def poll(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 1:
            head.stop(order)

    monkeypatch.setattr(time, "sleep", poll)
    Act(run, 1).stop(order)
    assert order == [0, 1]


def test_a_member_whose_head_has_nothing_to_stop_does_not_wait_for_it() -> None:
    order: list[int] = []
    Act(stopping("spark-02"), 1).stop(order)
    assert order == [1]


def test_where_the_head_does_not_stop_the_others_are_left() -> None:
    run = stopping(*HOSTS)
    run.cluster_stops["pair"] = ClusterStop(ready=set(HOSTS))
    run.failures["spark-01"] = (Diagnostic("spark-01: wide", "it does not end", code="test"),)
    order: list[int] = []
    with pytest.raises(executor.FailedError, match="it does not end; nothing was touched"):
        Act(run, 1).stop(order)
    assert order == []
