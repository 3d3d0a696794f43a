"""What people read: the report against its golden file, and its exit codes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult
from sparkfleet.plan.as_json import plan_data
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.groups import groups, names
from sparkfleet.plan.model import HostPlan, HostState, Operation, Plan
from sparkfleet.plan.operations import FetchOperation, ReplaceService
from sparkfleet.plan.report import plan_text
from sparkfleet.units import duration, size
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import CONVERGED, HOST, NANO, STOCK, foreign, with_service

GOLDEN = Path(__file__).parents[2] / "golden" / "plan"


def fleet() -> Plan:
    qwen = replace(
        NANO,
        name="qwen36-35b",
        served_name="qwen36-35b",
        image=STOCK,
        weights=replace(NANO.weights, repo="nvidia/Qwen3.6-35B-A3B-NVFP4", revision="c" * 40),
        flags=(("max-model-len", 65536), ("moe-backend", "marlin")),
    )
    present = replace(
        CONVERGED,
        images={**CONVERGED.images, STOCK.pull_ref: None},
        weights={"nvidia/Qwen3.6-35B-A3B-NVFP4@" + "c" * 40: {}},
        generations={"nano": replace(CONVERGED.generations["nano"], gate_result=GateResult(360.4, 12.0))},
    )
    changed = host_plan(replace(HOST, services=(qwen,)), present)
    blocked = replace(fake_spark.fresh(HOST), instances=(foreign(name="nano"),))
    return Plan(
        (
            changed,
            host_plan(replace(HOST, name="spark-02"), CONVERGED),
            HostPlan(
                "spark-03",
                unknown=Diagnostic(
                    "spark-03",
                    "SSH connection refused (192.168.1.23:22)",
                    hint="ssh spark-03 true",
                    code="test",
                ),
            ),
            host_plan(replace(HOST, name="spark-04"), blocked),
            host_plan(replace(with_service(), name="spark-05", paths=HOST.paths), fake_spark.fresh(HOST)),
        )
    )


def test_the_report_says_per_field_old_and_new_what_it_costs_and_what_is_not_known() -> None:
    assert plan_text(fleet()) == (GOLDEN / "fleet.txt").read_text()


def test_knowledge_that_another_operator_may_not_have_is_named() -> None:
    plan = replace(fleet(), knowledge="2027.1.2")
    line = "knowledge 2027.1.2, not the bundled one (sparkfleet knowledge show)"
    assert plan_text(plan).splitlines()[-2] == line
    assert plan_data(plan)["knowledge"] == "2027.1.2"
    assert "knowledge" not in plan_text(fleet())


@pytest.mark.provokes("container-name-taken")
def test_the_json_has_the_same_content_under_stable_keys() -> None:
    assert json.dumps(plan_data(fleet()), indent=1) + "\n" == (GOLDEN / "fleet.json").read_text()


def with_free(operation: Operation, gib: int) -> Operation:
    if not isinstance(operation, FetchOperation):
        return operation
    return replace(operation, artifact=replace(operation.artifact, free=gib << 30))


def many() -> Plan:
    """Return a fleet of 1,000: 40 to change alike, one otherwise, three unreachable, one blocked."""
    changed, _, _, blocked, _ = fleet().hosts
    other = replace(changed, host="spark-0500", change_sets=changed.change_sets[:1])
    hosts = {f"spark-{number:04}": HostPlan(f"spark-{number:04}") for number in range(1, 1001)}
    for number in (*range(7, 31), *range(100, 115), 800):
        name = f"spark-{number:04}"
        change_sets = tuple(
            replace(one, operations=tuple(with_free(operation, number) for operation in one.operations))
            for one in changed.change_sets
        )
        hosts[name] = replace(changed, host=name, change_sets=change_sets)
    hosts["spark-0500"] = other
    hosts["spark-0999"] = replace(
        blocked,
        host="spark-0999",
        change_sets=tuple(
            replace(entry, blocked=replace(entry.blocked, location="spark-0999: container nano"))
            if entry.blocked
            else entry
            for entry in blocked.change_sets
        ),
    )
    for number in (3, 4, 900):
        name = f"spark-{number:04}"
        found = f"SSH connection refused (10.0.0.{number % 250}:22)"
        hosts[name] = HostPlan(name, unknown=Diagnostic(name, found, hint=f"ssh {name} true", code="test"))
    return Plan(tuple(hosts.values()))


def test_of_a_large_fleet_the_counts_come_first_and_sparks_with_the_same_plan_once() -> None:
    assert plan_text(many()) == (GOLDEN / "thousand.txt").read_text()


def test_every_spark_that_is_not_as_declared_is_named_whatever_the_size_of_the_fleet() -> None:
    plan = replace(
        many(), hosts=tuple(host for host in many().hosts if host.state is not HostState.UNCHANGED)
    )
    text = plan_text(plan)
    shown = {name for part in re.findall(r"spark-\d+(?:\.\.\d+)?", text) for name in spread(part)}
    assert shown >= {host.host for host in plan.hosts}


def spread(part: str) -> list[str]:
    first, _, last = part.removeprefix("spark-").partition("..")
    return [f"spark-{number:04}" for number in range(int(first), int(last or first) + 1)]


def test_sparks_whose_changes_differ_in_one_value_are_not_one_group() -> None:
    changed = fleet().hosts[0]
    entry = changed.change_sets[-1]
    *earlier, rollout = entry.operations
    assert isinstance(rollout, ReplaceService)
    last = replace(rollout.changes[-1], key="something else")
    rollout = replace(rollout, changes=(*rollout.changes[:-1], last))
    other = replace(entry, operations=(*earlier, rollout))
    hosts = [replace(changed, host=f"spark-{n:02}") for n in range(20)]
    hosts[7] = replace(hosts[7], change_sets=(*changed.change_sets[:-1], other))
    assert [len(group.plans) for group in groups(Plan(tuple(hosts)))] == [19, 1]


NAMES = {
    "a run": (["spark-01", "spark-02", "spark-03"], "spark-01..03"),
    "two": (["spark-01", "spark-02"], "spark-01, spark-02"),
    "a gap": (["s1", "s2", "s3", "s5"], "s1..3, s5"),
    "another width": (["s9", "s10", "s11", "s12"], "s9, s10..12"),
    "no numbers": (["left", "right", "middle"], "left, right, middle"),
    "another prefix": (["a-1", "a-2", "b-3"], "a-1, a-2, b-3"),
    "none": ([], ""),
}


@pytest.mark.parametrize("hosts, text", NAMES.values(), ids=NAMES)
def test_names_with_consecutive_numbers_are_abbreviated(hosts: list[str], text: str) -> None:
    assert names(hosts) == text


EXIT_CODES = {
    "nothing to do": ((HostPlan("a"),), 0),
    "changes": ((HostPlan("a"), fleet().hosts[0]), 2),
    "a host unknown beside changes": (fleet().hosts[:3], 1),
    "a host blocked": ((fleet().hosts[3],), 1),
}


@pytest.mark.parametrize("hosts, code", EXIT_CODES.values(), ids=EXIT_CODES)
def test_the_exit_code_distinguishes_no_changes_changes_and_errors(
    hosts: tuple[HostPlan, ...], code: int
) -> None:
    assert Plan(hosts).exit_code == code


@pytest.mark.parametrize(
    "count, text", [(5, "5 B"), (2048, "2 KiB"), (812 << 20, "812 MiB"), (20831323545, "19.4 GiB")]
)
def test_bytes_are_printed_in_the_unit_that_people_use(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    "seconds, text", [(8, "8 s"), (89, "89 s"), (372, "6 min"), (4210, "70 min"), (7300, "2 h 2 min")]
)
def test_durations_are_printed_as_roughly_as_they_are_known(seconds: float, text: str) -> None:
    assert duration(seconds) == text
