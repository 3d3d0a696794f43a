"""A link has two ends: what the operation does about the other one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Member
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.operations import fabric
from sparkfleet.fleet.run import executor, fleet_run, spark_plan
from sparkfleet.plan.model import ChangeSet, HostPlan

GONE = Diagnostic("spark-02", "it could not be reached", code="test")


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Any:
    member = Member("pair", 0, ("spark-01", "spark-02"), "mp")
    monkeypatch.setattr(spark_plan, "declared", lambda _: Host("spark-01", member=member))
    run = fleet_run.FleetRun()
    run.plans["spark-01"] = HostPlan("spark-01")
    return SimpleNamespace(host=SimpleNamespace(name="spark-01"), run=run)


def test_with_both_ends_ready_a_change_begins(act: Any) -> None:
    act.run.plans["spark-02"] = HostPlan("spark-02")
    fabric._require_other_end(act)


@pytest.mark.parametrize("why", ["unreachable", "unknown", "blocked"])
def test_nothing_is_changed_at_one_end_when_the_other_cannot_be_changed(act: Any, why: str) -> None:
    if why == "unreachable":
        act.run.unreachable["spark-02"] = GONE
    elif why == "unknown":
        act.run.plans["spark-02"] = HostPlan("spark-02", unknown=GONE)
    else:
        entry = ChangeSet("fabric", blocked=GONE)
        act.run.plans["spark-02"] = HostPlan("spark-02", (entry,))
    with pytest.raises(executor.FailedError, match="spark-02, at the other end, cannot be changed now"):
        fabric._require_other_end(act)


def test_a_spark_that_left_its_cluster_needs_no_other_end(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_plan, "declared", lambda _: Host("spark-01"))
    act.run.unreachable["spark-02"] = GONE
    fabric._require_other_end(act)


def test_when_the_other_end_fails_the_spark_is_notified_once(
    act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notified: list[tuple[str, ...]] = []
    monkeypatch.setattr(remote, "program", lambda _, *args: notified.append(args))
    other = fabric._OtherEnd(act, "fabric-1")
    other.check()
    assert notified == []
    act.run.failures["spark-02"] = (GONE,)
    other.check()
    other.check()
    cause = "spark-02, at the other end, could not be configured"
    assert notified == [("fabric-give-up", "fabric-1", cause)]


def connector(act: Any, monkeypatch: pytest.MonkeyPatch, *, works: bool) -> tuple[Any, Any]:
    """Give the host an open connection, and a way to make a new one that works or does not."""
    closed: list[str] = []
    old, new = (SimpleNamespace(close=lambda name=name: closed.append(name)) for name in ("old", "new"))
    act.host.connector = SimpleNamespace(client=old)
    act.progress = lambda *args: closed.append(" ".join(args))

    def reconnect(host: Any, _: float) -> None:
        if not works:
            raise remote.ConnectionLostError("no route")
        host.connector.client = new

    monkeypatch.setattr(remote, "reconnect", reconnect)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        remote, "run_once", lambda host, args, **_: ran.append((host.connector.client, *args))
    )
    return closed, (ran, new)


def test_the_spark_is_confirmed_over_a_new_connection_and_the_old_one_is_closed(
    act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, (ran, new) = connector(act, monkeypatch, works=True)
    fabric._reconnect(act, "fabric-1")
    assert ran == [(new, *remote.PROGRAM, "fabric-confirm", "fabric-1")]
    assert closed == ["old"]


def test_without_a_new_connection_the_spark_gets_no_confirmation(
    act: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, (ran, _) = connector(act, monkeypatch, works=False)
    fabric._reconnect(act, "fabric-1")
    assert ran == []
    assert closed == ["fabric no new connection (no route); the host reverts its links by itself"]
