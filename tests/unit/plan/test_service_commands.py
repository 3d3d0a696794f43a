"""What stop, start and restart change: services as they are on the host, whatever is declared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult
from sparkfleet.desired_state import Host
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import (
    Action,
    ChangeKind,
    ChangeSet,
    Command,
    FieldChange,
    HostPlan,
    HostState,
    Plan,
)
from sparkfleet.plan.operations import RestartService, StartService, StopService, WriteFile
from sparkfleet.plan.report import plan_text
from sparkfleet.plan.service_commands import Request, Target, command_plan, unknown_host
from sparkfleet.probe.observation import Listener, Observed, ObservedUnit
from tests.unit.plan import fake_spark
from tests.unit.plan.cluster import cluster_fixtures
from tests.unit.plan.nano import CONVERGED, HOST, NANO, rows, with_service
from tests.unit.plan.test_stops import stopped

STOPPED = stopped(CONVERGED)


def plan(command: Command, seen: Observed, target: str = "", host: Host = HOST) -> HostPlan:
    request = Request(command, Target.of(target), "a benchmark")
    return command_plan(host, seen, host_plan(host, seen), request)


def only(found: HostPlan) -> ChangeSet:
    (one,) = found.change_sets
    return one


def test_a_stop_ends_the_engine_and_disables_its_unit() -> None:
    found = plan(Command.STOP, CONVERGED)
    assert plan_text(Plan((found,))) == (
        "spark-01   nano                                                    stop\n"
        "  ~ state       running → stopped   a benchmark\n"
        "  ~ unit        sparkfleet-nano.service enabled → disabled\n"
        "1 to change, 0 unchanged\n"
    )
    (operation,) = only(found).operations
    assert operation == StopService(
        "nano",
        changes=(
            FieldChange(Action.CHANGE, "state", old="running", new="stopped", note="a benchmark"),
            FieldChange(Action.CHANGE, "unit", "sparkfleet-nano.service", "enabled", "disabled"),
        ),
        reason="a benchmark",
    )


def test_what_is_stopped_already_is_not_stopped_again_and_stays_named() -> None:
    found = plan(Command.STOP, STOPPED)
    assert found.change_sets == ()
    assert "stopped     nano by ana@laptop" in plan_text(Plan((found,)))


def test_a_service_that_failed_is_stopped_so_that_no_run_starts_it() -> None:
    assert [one.old for one in only(plan(Command.STOP, replace(STOPPED, stops={}))).fields()] == ["exited"]


def test_a_declaration_that_differs_is_not_applied() -> None:
    changed = with_service(port=8001, flags=())
    assert only(plan(Command.STOP, CONVERGED, host=changed)).kind is ChangeKind.STOP
    (operation,) = only(plan(Command.START, STOPPED, host=changed)).operations
    assert isinstance(operation, StartService)
    assert operation.generation == fake_spark.generation_of(HOST, NANO)


def test_a_service_that_is_no_longer_declared_can_be_stopped_and_started() -> None:
    bare = Host("spark-01")
    assert only(plan(Command.STOP, CONVERGED, host=bare)).subject == "nano"
    assert only(plan(Command.START, STOPPED, host=bare)).kind is ChangeKind.START


def test_a_unit_that_sparkfleet_did_not_write_is_refused() -> None:
    name = "sparkfleet-nano.service"
    seen = replace(CONVERGED, units={**CONVERGED.units, name: ObservedUnit("[Service]\n", enabled="enabled")})
    for command in (Command.STOP, Command.RESTART):
        found = plan(command, seen)
        assert found.state is HostState.BLOCKED
        diagnostic = only(found).blocked
        assert diagnostic is not None
        assert diagnostic.code == "unit-not-managed"


def test_outdated_programs_are_replaced_first_and_only_for_a_change() -> None:
    seen = replace(CONVERGED, paths={path: one for path, one in CONVERGED.paths.items() if "pyz" not in path})
    programs, nano = plan(Command.STOP, seen).change_sets
    assert [type(one) for one in programs.operations] == [WriteFile]
    assert nano.subject == "nano"
    assert plan(Command.START, seen).change_sets == ()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("", ["nano", "other"]),
        ("spark-01", ["nano", "other"]),
        ("spark-01/other", ["other"]),
        ("spark-02", []),
        ("spark-02/nano", []),
    ],
)
def test_a_target_names_all_services_of_a_host_or_one(target: str, expected: list[str]) -> None:
    other = replace(NANO, name="other", served_name="other", port=8001)
    both = replace(HOST, services=(NANO, other))
    found = plan(Command.STOP, fake_spark.converged(both), target, both)
    assert [one.subject for one in found.change_sets] == expected


@pytest.mark.provokes("service-not-found")
def test_a_target_that_is_not_there_is_named_with_what_is_there() -> None:
    diagnostic = only(plan(Command.STOP, CONVERGED, "spark-01/nanno")).blocked
    assert diagnostic is not None
    assert (diagnostic.code, diagnostic.expected) == ("service-not-found", "one of: nano")


@pytest.mark.provokes("service-not-found")
@pytest.mark.parametrize("target", ["spark-O1/nano", "spark-O1", "/nano"])
def test_a_target_on_no_host_of_the_inventory_is_an_error_of_the_run(target: str) -> None:
    diagnostic = unknown_host(Target.of(target), ["spark-01", "spark-02"])
    assert diagnostic is not None
    assert diagnostic.expected.endswith("spark-01, spark-02")


@pytest.mark.parametrize("target", ["", "spark-01", "spark-01/nano"])
def test_a_target_on_a_host_of_the_inventory_is_none(target: str) -> None:
    assert unknown_host(Target.of(target), ["spark-01", "spark-02"]) is None


def test_a_host_that_is_unknown_stays_unknown() -> None:
    gone = HostPlan("spark-01", unknown=Diagnostic("spark-01", "no route", code="test"))
    assert command_plan(HOST, CONVERGED, gone, Request(Command.STOP)) is gone


def test_a_start_is_a_rollout_of_the_recorded_generation() -> None:
    entry = only(plan(Command.START, STOPPED))
    assert rows(entry) == [
        ("state", "", "exited", "serving"),
        ("unit", "sparkfleet-nano.service", "disabled", "enabled"),
    ]
    (operation,) = entry.operations
    assert isinstance(operation, StartService)
    assert (operation.replaces, operation.expect) == (("nano",), (("nano", STOPPED.instances[0].id),))


def test_a_start_of_a_service_that_runs_changes_nothing() -> None:
    assert plan(Command.START, CONVERGED).change_sets == ()


def test_a_restart_costs_what_the_last_start_took_and_starts_what_is_stopped() -> None:
    measured = replace(CONVERGED.generations["nano"], gate_result=GateResult(360.0, 12.0))
    found = plan(Command.RESTART, replace(CONVERGED, generations={"nano": measured}))
    assert [type(one) for one in only(found).operations] == [RestartService]
    assert "restart, about 6 min without service" in plan_text(Plan((found,)))
    assert only(plan(Command.RESTART, STOPPED)).kind is ChangeKind.START


def test_a_service_without_a_record_cannot_be_started() -> None:
    diagnostic = only(plan(Command.START, replace(STOPPED, generations={}))).blocked
    assert diagnostic is not None
    assert diagnostic.code == "service-not-found"


def test_a_start_whose_port_or_memory_is_taken_is_blocked() -> None:
    taken = replace(STOPPED, listeners={8000: Listener(7, "python3")})
    diagnostic = only(plan(Command.START, taken)).blocked
    assert diagnostic is not None
    assert (diagnostic.code, diagnostic.location) == ("port-in-use", "spark-01: port 8000")
    record = replace(STOPPED.generations["nano"], need_mib=STOPPED.memory_available_mib + 1)
    diagnostic = only(plan(Command.START, replace(STOPPED, generations={"nano": record}))).blocked
    assert diagnostic is not None
    assert diagnostic.code == "memory-insufficient"


def pair(command: Command, *seen: Observed | None, target: str = "") -> list[HostPlan]:
    """Return the joined plans of a cluster; None: a member that cannot be reached."""
    hosts = [cluster_fixtures.host(rank) for rank in (0, 1)]
    plans = [
        plan(command, one, target, host)
        if one
        else HostPlan(host.name, unknown=Diagnostic(host.name, "no route", code="test"))
        for host, one in zip(hosts, seen, strict=False)
    ]
    return list(join_members(plans, {one.name: one.member for one in hosts if one.member}).values())


RANKS = tuple(cluster_fixtures.converged(cluster_fixtures.host(rank)) for rank in (0, 1))


def test_a_cluster_is_stopped_on_all_members_whichever_is_named() -> None:
    for target in ("", "spark-02", "spark-01/wide"):
        plans = pair(Command.STOP, *RANKS, target=target)
        assert [only(one).kind for one in plans] == [ChangeKind.STOP] * 2
        assert "pair       wide (spark-01, spark-02)" in plan_text(Plan(tuple(plans)))
    assert [one.change_sets for one in pair(Command.STOP, *RANKS, target="spark-03")] == [(), ()]


def test_a_part_of_a_cluster_is_not_stopped_by_a_limit() -> None:
    (first,) = pair(Command.STOP, RANKS[0])
    diagnostic = only(first).blocked
    assert diagnostic is not None
    assert (diagnostic.message, diagnostic.hint) == (
        "spark-02 is not in this run",
        "omit --limit, or name all members",
    )


def test_a_member_that_cannot_be_reached_or_is_stopped_does_not_keep_the_others_running() -> None:
    first, second = pair(Command.STOP, RANKS[0], None)
    assert (first.state, second.state) == (HostState.CHANGE, HostState.UNKNOWN)
    first, second = pair(Command.STOP, RANKS[0], stopped(RANKS[1]))
    assert (first.state, second.state) == (HostState.CHANGE, HostState.UNCHANGED)


def test_all_members_of_a_cluster_start_even_if_one_runs() -> None:
    plans = pair(Command.START, RANKS[0], stopped(RANKS[1]))
    assert [[type(one) for one in only(plan).operations] for plan in plans] == [
        [RestartService],
        [StartService],
    ]
    first, _ = pair(Command.START, stopped(RANKS[0]), None)
    assert first.state is HostState.BLOCKED
