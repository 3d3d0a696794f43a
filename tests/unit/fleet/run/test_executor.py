"""A plan is stale when the host needs other changes than those shown, not when a note of it has aged."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Prepare
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeSet, HostPlan
from sparkfleet.probe.observation import ObservedPath, ObservedResources
from sparkfleet.resources.base import Resource
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import CONVERGED
from tests.unit.plan.nano import HOST as NANO_HOST

DAY_S = 86400
CACHES = Resource("compile_caches", "/cache", (("max_age_days", "40"),))
HOST = Host("spark-01", prepare=Prepare(resources=(CACHES,)))


def plan(now: int, **caches: int) -> HostPlan:
    """Return the plan at a time; ``caches`` are names with the day of the last change."""
    found = {name: [5 << 30, day * DAY_S, False] for name, day in caches.items()}
    live = {CACHES.id: {"caches": found, "now": now}}
    return host_plan(HOST, replace(fake_spark.converged(HOST), resources=ObservedResources({}, live)))


def begin(monkeypatch: pytest.MonkeyPatch, shown: HostPlan, now: HostPlan) -> None:
    """Begin a run whose first change finds the host as the second plan."""
    monkeypatch.setattr(spark_plan, "fresh_plan", lambda *_: now)
    run = SimpleNamespace(probed={"spark-01": shown}, steps=())
    executor.refuse_stale(cast("Any", SimpleNamespace(run=run, host=SimpleNamespace(name="spark-01"))))


def test_a_plan_stays_valid_when_only_the_age_in_its_notes_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = (plan(50 * DAY_S + seconds, aaaaaaaaaaaa=1) for seconds in (-1, 0))
    assert before != after
    begin(monkeypatch, before, after)


def test_a_plan_stays_valid_when_a_file_was_added_to_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (
        replace(
            CONVERGED,
            paths={**CONVERGED.paths, "~/vllm": ObservedPath("directory", "0700", "nvidia", "nvidia", size)},
        )
        for size in (4096, 8192)
    )
    assert host_plan(NANO_HOST, first).change_sets
    begin(monkeypatch, host_plan(NANO_HOST, first), host_plan(NANO_HOST, second))


def test_a_plan_is_stale_when_it_would_remove_more_than_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, now = plan(50 * DAY_S, aaaaaaaaaaaa=1), plan(50 * DAY_S, aaaaaaaaaaaa=1, bbbbbbbbbbbb=2)
    with pytest.raises(executor.FailedError, match="changed since the plan"):
        begin(monkeypatch, shown, now)


def test_a_host_that_is_blocked_by_now_is_refused_with_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = Diagnostic("spark-01: port 8000", "held by another", code="port-in-use")
    shown, now = HostPlan("spark-01"), HostPlan("spark-01", (ChangeSet("nano", blocked=taken),))
    with pytest.raises(executor.FailedError) as failed:
        begin(monkeypatch, shown, now)
    assert failed.value.diagnostics == (taken,)
