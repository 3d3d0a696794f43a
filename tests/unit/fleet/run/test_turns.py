"""With --serial, engines are replaced on one Spark or cluster after the other, up to the first failure."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.fleet.run import executor
from sparkfleet.fleet.run.fleet_run import FleetRun
from sparkfleet.fleet.run.turns import SERIAL, turn


def act(run: FleetRun, name: str, *, serial: bool = True) -> Any:
    host = SimpleNamespace(name=name, data={SERIAL: "yes"} if serial else {})
    return SimpleNamespace(run=run, host=host, progress=lambda *_: None)


def test_a_host_waits_until_the_one_before_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    run, order = FleetRun(), []
    with ExitStack() as first:
        first.enter_context(turn(act(run, "spark-01"), "spark-01"))

        def sleep(_: float) -> None:
            order.append("spark-02 waits")
            first.close()

        monkeypatch.setattr(time, "sleep", sleep)
        with turn(act(run, "spark-02"), "spark-02"):
            order.append("spark-02 changes")
    assert order == ["spark-02 waits", "spark-02 changes"]
    assert run.turns.current == ""


def test_the_members_of_a_cluster_share_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FleetRun()
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with turn(act(run, "spark-01"), "cluster pair"), turn(act(run, "spark-02"), "cluster pair"):
        assert run.turns.users == 2
    assert run.turns.current == ""


@pytest.mark.provokes("run-stopped")
def test_after_a_failure_no_other_host_is_changed() -> None:
    run = FleetRun()
    with pytest.raises(ValueError, match="no room"), turn(act(run, "spark-01"), "spark-01"):
        raise ValueError("no room")
    with pytest.raises(executor.FailedError) as failed, turn(act(run, "spark-02"), "spark-02"):
        pytest.fail("it changes")
    (diagnostic,) = failed.value.diagnostics
    assert diagnostic.code == "run-stopped"
    assert diagnostic.message == "spark-01 failed before; nothing was changed here"


def test_without_the_option_all_hosts_change_at_the_same_time_whatever_fails() -> None:
    run = FleetRun()
    first, second = (act(run, name, serial=False) for name in ("spark-01", "spark-02"))
    with turn(first, "spark-01"), turn(second, "spark-02"):
        assert run.turns.current == ""
