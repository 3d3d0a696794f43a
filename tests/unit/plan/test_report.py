"""What people read: the report against its golden file, and its exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet.errors import Problem
from sparkfleet.plan.as_json import plan_data
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import HostPlan, Plan
from sparkfleet.plan.report import plan_text
from sparkfleet.plan.units_of_size import duration, size
from tests.unit.plan import fake_spark
from tests.unit.plan.test_compute import HOST, NANO, STOCK, THERE, foreign, with_service

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
    there = replace(
        THERE,
        images={**THERE.images, STOCK.pull_ref: None},
        weights={"nvidia/Qwen3.6-35B-A3B-NVFP4@" + "c" * 40: {}},
        generations={
            "nano": {**THERE.generations["nano"], "gate_result": {"ready_s": 360.4, "first_s": 12.0}}
        },
    )
    changed = host_plan(replace(HOST, services=(qwen,)), there)
    blocked = replace(fake_spark.fresh(HOST), containers=(foreign(name="nano"),))
    return Plan(
        (
            changed,
            host_plan(replace(HOST, name="spark-02"), THERE),
            HostPlan(
                "spark-03",
                unknown=Problem(
                    "spark-03", "SSH connection refused (192.168.1.23:22)", remedy="ssh spark-03 true"
                ),
            ),
            host_plan(replace(HOST, name="spark-04"), blocked),
            host_plan(replace(with_service(), name="spark-05", paths=HOST.paths), fake_spark.fresh(HOST)),
        )
    )


def test_the_report_says_per_field_old_and_new_what_it_costs_and_what_is_not_known() -> None:
    assert plan_text(fleet()) == (GOLDEN / "fleet.txt").read_text()


def test_the_json_has_the_same_content_under_stable_keys() -> None:
    assert json.dumps(plan_data(fleet()), indent=1) + "\n" == (GOLDEN / "fleet.json").read_text()


EXIT_CODES = {
    "nothing to do": ((HostPlan("a"),), 0),
    "changes": ((HostPlan("a"), fleet().hosts[0]), 2),
    "a host unknown beside changes": (fleet().hosts[:3], 1),
    "a host blocked": ((fleet().hosts[3],), 1),
}


@pytest.mark.parametrize("hosts, code", EXIT_CODES.values(), ids=EXIT_CODES)
def test_the_exit_code_tells_nothing_to_do_from_changes_and_from_trouble(
    hosts: tuple[HostPlan, ...], code: int
) -> None:
    assert Plan(hosts).exit_code == code


@pytest.mark.parametrize(
    "count, text", [(5, "5 B"), (2048, "2 KiB"), (812 << 20, "812 MiB"), (20831323545, "19.4 GiB")]
)
def test_bytes_are_said_in_the_unit_that_people_use(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    "seconds, text", [(8, "8 s"), (89, "89 s"), (372, "6 min"), (4210, "70 min"), (7300, "2 h 2 min")]
)
def test_durations_are_said_as_roughly_as_they_are_known(seconds: float, text: str) -> None:
    assert duration(seconds) == text
