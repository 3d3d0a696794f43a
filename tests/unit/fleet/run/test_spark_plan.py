"""The rollout of an earlier run is followed before a host is planned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import LOST, RolloutResult
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import spark_plan
from sparkfleet.plan.model import HostPlan

HOST: Any = SimpleNamespace(name="spark-01")
NEWER = Diagnostic("events.jsonl", "event of version 99", hint=codec.NEWER_HINT, code=codec.NEWER)


@pytest.mark.parametrize("updated", [True, False])
def test_a_rollout_that_the_programs_on_the_host_cannot_read_is_continued_by_newer_ones(
    monkeypatch: pytest.MonkeyPatch, updated: bool
) -> None:
    programs = ["old"]
    fresh = HostPlan("spark-01")

    def follow(*_: object) -> RolloutResult:
        if programs[-1] == "new" and updated:
            return RolloutResult("restored")
        return RolloutResult(LOST, diagnostic=NEWER)

    monkeypatch.setattr(remote, "follow", follow)
    monkeypatch.setattr(remote, "update_programs", lambda _: programs.append("new"))
    monkeypatch.setattr(spark_plan, "fresh_plan", lambda *_: fresh)
    plan = spark_plan.plan_after(HOST, "nano-1", ())
    assert programs == ["old", "new"]
    if updated:
        assert plan is fresh
    else:
        assert plan.unknown is not None
        assert (plan.unknown.code, plan.unknown.hint) == (codec.NEWER, codec.NEWER_HINT)
        assert plan.unknown.location == "spark-01: events.jsonl"
