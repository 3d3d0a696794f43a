"""A change of a cluster is on all of its members or on none, and is shown once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.model import ChangeKind, HostPlan, HostState, Plan, Scope
from sparkfleet.plan.report import plan_text
from sparkfleet.probe.observation import Observed
from tests.unit.plan.cluster.cluster_fixtures import NAMES, converged, entry, fresh, host, plan

MEMBERS = {name: member for rank, name in enumerate(NAMES) if (member := host(rank).member)}
WIDER: dict[str, Any] = {"flags": (("tensor-parallel-size", 2), ("max-model-len", 1024))}


def both(*plans: HostPlan) -> Mapping[str, HostPlan]:
    return join_members(plans, MEMBERS)


def stopped(declared: Host) -> Observed:
    """Return a member whose container does not run."""
    seen = converged(declared)
    return replace(seen, instances=tuple(replace(one, state="exited") for one in seen.instances))


def unknown(name: str) -> HostPlan:
    return HostPlan(name, unknown=Diagnostic(name, "SSH connection refused", code="test"))


def test_where_nothing_differs_nothing_is_done() -> None:
    found = both(*(plan(host(rank), converged(host(rank))) for rank in (0, 1)))
    assert [one.change_sets for one in found.values()] == [(), ()]


def test_where_one_rank_does_not_run_all_are_restarted() -> None:
    first, second = both(plan(host(0), converged(host(0))), plan(host(1), stopped(host(1)))).values()
    assert [entry(one).kind for one in (first, second)] == [ChangeKind.RECREATE, ChangeKind.RECREATE]
    assert [c.new for c in entry(first).fields() if c.name == "state"] == ["restarted with the other ranks"]
    assert first.state is HostState.CHANGE


def test_an_unknown_member_blocks_the_others_by_name() -> None:
    first, second = both(plan(host(0), stopped(host(0))), unknown("spark-02")).values()
    assert first.state is HostState.BLOCKED
    diagnostic = entry(first).blocked
    assert diagnostic is not None
    assert diagnostic.message == "degraded: spark-02 is unknown: SSH connection refused"
    assert second.unknown is not None


def test_where_nothing_serves_yet_nothing_is_degraded() -> None:
    first, _ = both(plan(host(0), fresh(host(0))), unknown("spark-02")).values()
    diagnostic = entry(first).blocked
    assert diagnostic is not None
    assert diagnostic.message == "spark-02 is unknown: SSH connection refused"


def test_an_unknown_member_is_no_matter_while_nothing_changes() -> None:
    first, _ = both(plan(host(0), converged(host(0))), unknown("spark-02")).values()
    assert first.change_sets == ()


def test_a_member_outside_of_the_run_blocks_the_others() -> None:
    (first,) = both(plan(host(0), fresh(host(0)))).values()
    diagnostic = entry(first).blocked
    assert diagnostic is not None
    assert (diagnostic.message, diagnostic.hint) == (
        "spark-02 is not in this run",
        "omit --limit, or name all members",
    )


def test_what_blocks_one_rank_blocks_all_and_is_reported_once() -> None:
    declared = host(1)
    full = fresh(declared)
    disks = {name: replace(disk, free=1 << 20) for name, disk in full.disks.items()}
    found = both(plan(host(0), fresh(host(0))), plan(declared, replace(full, disks=disks)))
    diagnostics = [entry(one).blocked for one in found.values()]
    assert diagnostics[0] == diagnostics[1]
    assert diagnostics[0] is not None
    text = plan_text(Plan(tuple(found.values())))
    assert text.count(diagnostics[0].message) == 1


def test_a_member_that_is_blocked_for_another_reason_blocks_the_others() -> None:
    blocked = plan(host(1), converged(host(1)))
    other = entry(plan(host(1), fresh(host(1))))
    reasons = Diagnostic(
        "spark-02: nano",
        "no room",
        "room",
        "make room",
        (Diagnostic("spark-02: /", "locked", code="test"),),
        code="test",
    )
    own = replace(other, subject="host", scope=Scope.HOST, cluster="", blocked=reasons)
    first, _ = both(plan(host(0), stopped(host(0))), replace(blocked, change_sets=(own,))).values()
    diagnostic = entry(first).blocked
    assert diagnostic is not None
    assert [(one.message, one.hint) for one in diagnostic.each] == [
        ("spark-02 is blocked: spark-02: nano: no room", "make room"),
        ("spark-02 is blocked: spark-02: /: locked", ""),
    ]


def test_a_member_that_must_be_made_ready_first_blocks_the_others() -> None:
    first, _ = both(plan(host(0), fresh(host(0))), HostPlan("spark-02")).values()
    diagnostic = entry(first).blocked
    assert diagnostic is not None
    assert diagnostic.message == "spark-02 must be prepared first; its services are planned afterwards"


def test_the_report_has_a_cluster_once_with_what_differs_by_member() -> None:
    changed = [host(rank, **WIDER) for rank in (0, 1)]
    found = both(*(plan(one, converged(host(rank))) for rank, one in enumerate(changed)))
    lines = plan_text(Plan(tuple(found.values()))).splitlines(keepends=True)
    assert "".join(line for line in lines if not line.startswith("  = ")) == (
        "pair       wide (spark-01, spark-02)"
        "                               recreate, without service while the engine starts\n"
        "  ~ flag        --max-model-len 262144 → 1024\n"
        "  - flag        --kv-cache-dtype fp8\n"
        "  - flag        --trust-remote-code true\n"
        '  - flag        --speculative-config {"method":"mtp","num_speculative_tokens":3}\n'
        "2 to change, 0 unchanged\n"
    )


def test_a_limitation_of_a_cluster_is_shown_once() -> None:
    changed = [host(rank, limitations=("Tool calls were not tried.",), **WIDER) for rank in (0, 1)]
    found = both(*(plan(one, converged(host(rank))) for rank, one in enumerate(changed)))
    text = plan_text(Plan(tuple(found.values())))
    assert text.count("Tool calls were not tried.") == 1
    assert "\n  = limitation  Tool calls were not tried.\n" in text


def test_the_report_names_the_member_that_has_a_field_alone() -> None:
    found = both(plan(host(0), converged(host(0))), plan(host(1), stopped(host(1))))
    text = plan_text(Plan(tuple(found.values())))
    assert "  ~ state       running → restarted with the other ranks   on spark-01\n" in text
    assert "  ~ state       exited → serving   on spark-02\n" in text


def test_what_a_spark_has_of_its_own_stays_in_its_lines() -> None:
    found = both(*(plan(host(rank), fresh(host(rank))) for rank in (0, 1)))
    text = plan_text(Plan(tuple(found.values())))
    assert text.index("spark-01   host") < text.index("pair       wide")
    assert "  + flag        --headless true   on spark-02\n" in text
