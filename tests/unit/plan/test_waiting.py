"""A blocked change keeps those that depend on it from being executed, and no other ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Service
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeSet, HostPlan, HostState, Plan, Scope, Step
from sparkfleet.plan.operations import UserDeploy
from sparkfleet.plan.report import plan_text
from sparkfleet.plan.waiting import block_dependents
from sparkfleet.probe.observation import Listener, Observed, ObservedPath
from sparkfleet.runtimes import Container
from tests.unit.plan import fake_spark
from tests.unit.plan.cluster import cluster_fixtures
from tests.unit.plan.nano import HOST, NANO

MISFIT = Container(devices=("/dev/missing",))
"""Settings that block a service: the Spark has no such device."""


def service(name: str, port: int, share: float = 0.3, **changes: Any) -> Service:
    flags = (("gpu-memory-utilization", share), ("max-model-len", 8192))
    return replace(NANO, name=name, served_name=name, port=port, flags=flags, **changes)


def declared(*services: Service) -> Host:
    return replace(HOST, services=services)


def plan(host: Host, seen: Observed, available_gib: int = 100) -> HostPlan:
    paths = {**seen.paths, "/dev/missing": ObservedPath("absent")}
    seen = replace(seen, paths=paths, memory_available_mib=available_gib << 10)
    return block_dependents(host_plan(host, seen))


def blocked(found: HostPlan) -> dict[str, str]:
    return {one.subject: one.blocked.code for one in found.change_sets if one.blocked}


def started(found: HostPlan) -> list[str]:
    return [one.subject for one in found.ready(Step.SERVICE)]


def test_a_service_that_does_not_fit_keeps_no_other_one_from_its_start() -> None:
    host = declared(service("aa", 8000), service("bb", 8001, container=MISFIT))
    found = plan(host, fake_spark.fresh(host))
    assert blocked(found) == {"bb": "device-missing"}
    assert started(found) == ["aa"]
    assert (found.state, found.proceeds) == (HostState.BLOCKED, True)
    assert "0 to change, 0 unchanged, 1 blocked (1 in part)" in plan_text(Plan((found,)))


@pytest.mark.provokes("change-waits")
def test_a_service_waits_for_the_one_whose_port_it_takes() -> None:
    before = declared(service("bb", 8000))
    after = declared(service("bb", 8001, container=MISFIT), service("aa", 8000), service("cc", 8002))
    found = plan(after, fake_spark.converged(before))
    assert blocked(found) == {"bb": "device-missing", "aa": "change-waits"}
    assert started(found) == ["cc"]
    (waits,) = (one.blocked for one in found.change_sets if one.subject == "aa")
    assert waits is not None
    assert waits.message == "waits for bb, which is blocked: it frees port 8000"
    assert waits.hint == "resolve what blocks bb, then run again"


def test_a_service_that_needs_the_memory_of_a_blocked_one_waits_if_there_is_no_other() -> None:
    before = declared(service("bb", 8000, 0.7))
    after = declared(service("bb", 8000, 0.2, container=MISFIT), service("aa", 8001, 0.4))
    seen = fake_spark.converged(before)
    assert blocked(plan(after, seen, available_gib=30)) == {"bb": "device-missing", "aa": "change-waits"}
    assert blocked(plan(after, seen, available_gib=60)) == {"bb": "device-missing"}


def test_a_service_that_runs_needs_only_what_it_does_not_have_yet() -> None:
    before = declared(service("aa", 8000, 0.4), service("bb", 8001, 0.5))
    seen = fake_spark.converged(before)
    same = declared(service("aa", 8000, 0.4, env=()), service("bb", 8001, 0.5, container=MISFIT))
    assert blocked(plan(same, seen, available_gib=5)) == {"bb": "device-missing"}
    more = declared(service("aa", 8000, 0.6), service("bb", 8001, 0.2, container=MISFIT))
    assert blocked(plan(more, seen, available_gib=5)) == {"bb": "device-missing", "aa": "change-waits"}


def test_what_waits_makes_others_wait() -> None:
    before = declared(service("bb", 8000, 0.22), service("aa", 8001, 0.22))
    after = declared(
        service("bb", 8005, 0.22, container=MISFIT),
        service("aa", 8000, 0.22),
        service("cc", 8001, 0.22),
        service("dd", 8002, 0.22),
    )
    found = plan(after, fake_spark.converged(before))
    assert blocked(found) == {"bb": "device-missing", "aa": "change-waits", "cc": "change-waits"}
    assert started(found) == ["dd"]


def test_services_wait_for_the_host() -> None:
    host = declared(service("aa", 8000))
    found = host_plan(host, fake_spark.fresh(host))
    reason = Diagnostic("spark-01", "another file is there", code="test")
    first, *rest = found.change_sets
    assert first.scope is Scope.HOST
    found = block_dependents(replace(found, change_sets=(replace(first, blocked=reason), *rest)))
    assert blocked(found) == {"host": "test", "aa": "change-waits"}
    assert not found.proceeds


def test_the_owners_deploy_alone_does_not_begin_a_run_on_a_host_with_blocked_changes() -> None:
    own = ChangeSet("user_deploy.py", (UserDeploy("make x"),), scope=Scope.HOST)
    reason = Diagnostic("spark-01", "no", code="test")
    assert HostPlan("spark-01", (own,)).proceeds
    assert not HostPlan("spark-01", (own, ChangeSet("nano", blocked=reason))).proceeds


def test_a_port_in_use_on_one_service_leaves_the_update_of_another_one() -> None:
    before = declared(service("aa", 8000))
    after = declared(service("aa", 8000, env=()), service("bb", 8001))
    seen = fake_spark.converged(before)
    taken = {**seen.listeners, 8001: Listener(7, "python3", "0::/user.slice")}
    found = plan(after, replace(seen, listeners=taken))
    assert blocked(found) == {"bb": "port-in-use"}
    assert started(found) == ["aa"]


def test_a_misfit_service_of_a_member_does_not_keep_its_cluster_from_a_change() -> None:
    flags = (("tensor-parallel-size", 2), ("gpu-memory-utilization", 0.5), ("max-model-len", 8192))
    hosts = [cluster_fixtures.host(rank, flags=flags) for rank in (0, 1)]
    extra = service("bb", 8001, 0.3, container=MISFIT)
    hosts[1] = replace(hosts[1], services=(*hosts[1].services, extra))
    members = {host.name: host.member for host in hosts if host.member}
    plans = [plan(host, cluster_fixtures.fresh(host)) for host in hosts]
    first, second = join_members(plans, members).values()
    assert blocked(first) == {}
    assert blocked(second) == {"bb": "device-missing"}
