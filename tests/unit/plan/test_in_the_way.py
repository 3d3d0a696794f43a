"""What keeps a Spark from being changed is named, and nothing is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan import blockers
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import HostState, Step
from sparkfleet.probe.observation import Listener
from sparkfleet.runtimes import Container
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import (
    CONVERGED,
    HOST,
    NANO,
    NGC,
    foreign,
    only_entry,
    with_service,
)

BLOCKERS = {
    "a foreign container publishes our port": (
        {"instances": (foreign(ports=frozenset({8000})),)},
        "held by the container open-webui",
    ),
    "a foreign container listens with host networking": (
        {"instances": (foreign(),), "listeners": {8000: Listener(7, "python", "0::/docker/" + "e" * 64)}},
        "held by the container open-webui",
    ),
    "a process listens on our port": (
        {"listeners": {8000: Listener(7, "python3 -m http.server 8000", "0::/user.slice")}},
        "python3 -m http.server 8000",
    ),
    "a foreign container has our name": (
        {"instances": (foreign(name="nano"),)},
        "a container of this name that is not managed by sparkfleet",
    ),
    "our own container has another name": (
        {
            "instances": (foreign(name="mine", service="nano"),),
            "listeners": {8000: Listener(7, "vllm", "0::/docker/" + "e" * 64)},
        },
        "held by the container mine, which is nano under another name",
    ),
}


@pytest.mark.provokes("container-renamed")
@pytest.mark.parametrize("changes, found", BLOCKERS.values(), ids=BLOCKERS)
def test_what_is_not_ours_is_named_and_stops_that_service(changes: dict[str, Any], found: str) -> None:
    plan = host_plan(HOST, replace(fake_spark.fresh(HOST), **changes))
    assert plan.state is HostState.BLOCKED
    blocked = plan.change_sets[-1].blocked
    assert blocked is not None
    assert found in blocked.message
    assert "spark-01" in blocked.hint
    assert plan.operations(Step.SERVICE) == ()


def test_a_port_published_by_our_own_container_is_no_obstacle() -> None:
    bridged = with_service(container=Container(network="bridge"))
    present = fake_spark.converged(bridged)
    present = replace(
        present, listeners={8000: Listener(9, "docker-proxy", "0::/system.slice/docker.service")}
    )
    assert host_plan(bridged, present).state is HostState.UNCHANGED


def test_weights_that_do_not_fit_on_the_disk_block_before_anything_stops() -> None:
    fresh = fake_spark.fresh(HOST)
    small = replace(fresh.disks["models"], free=1 << 30)
    plan = host_plan(HOST, replace(fresh, disks=dict.fromkeys(fresh.disks, small)))
    blocked = plan.change_sets[-1].blocked
    assert blocked is not None
    found = "1.0 GiB free, 45.6 GiB needed for nano (weights, image and container, the journal of a rollout)"
    assert found in blocked.message


def test_a_diagnostic_makes_the_host_unknown_and_plans_nothing() -> None:
    plan = host_plan(HOST, Diagnostic("spark-01", "Docker down: no socket", code="test"))
    assert plan.state is HostState.UNKNOWN
    assert plan.change_sets == ()


@pytest.mark.provokes("rollout-in-progress")
def test_a_running_rollout_makes_the_host_unknown() -> None:
    plan = host_plan(HOST, replace(CONVERGED, rollout="nano-1234"))
    assert plan.unknown is not None
    assert "nano-1234" in plan.unknown.message


def test_an_image_that_cannot_serve_makes_the_host_unknown_with_the_line_to_fix() -> None:
    broken = with_service(image=replace(NGC, entrypoint=("sleep", "infinity")))
    plan = host_plan(broken, fake_spark.fresh(broken))
    assert plan.unknown is not None
    assert "sleep" in plan.unknown.message


def test_a_flag_that_this_vllm_does_not_have_is_refused_before_anything_is_touched() -> None:
    typo = with_service(flags=(*NANO.flags, ("max-num-sequences", 4)))
    blocked = only_entry(typo, CONVERGED).blocked
    assert blocked is not None
    assert "--max-num-sequences" in blocked.message
    assert "--max-num-seqs" in blocked.hint
    assert (
        host_plan(replace(typo, ignore_rules=(("unknown-flag", "patched image"),)), CONVERGED).state
        is HostState.CHANGE
    )


def test_a_previous_service_is_restored_without_checks() -> None:
    odd = with_service(flags=(*NANO.flags, ("no-such-flag", 4)))
    seen = fake_spark.converged(odd)
    stopped = replace(seen, instances=tuple(replace(c, state="exited") for c in seen.instances))
    assert only_entry(odd, stopped).blocked is None


def test_a_need_of_more_memory_than_the_spark_has_blocks_the_rollout() -> None:
    observed = fake_spark.fresh(HOST)
    total, available = observed.memory_total_mib, observed.memory_available_mib
    assert blockers.memory(HOST, "nano", available, observed) is None
    found = blockers.memory(HOST, "nano", available + 1, observed)
    assert found is not None
    assert (found.location, found.code) == (f"{HOST.name}: memory", "memory-insufficient")
    assert blockers.memory(HOST, "nano", total, CONVERGED) is None  # its engine will release memory
    assert blockers.memory(HOST, "nano", total + 1, CONVERGED) is not None


def test_a_model_whose_weights_do_not_fit_into_the_free_memory_is_blocked_unless_an_engine_leaves() -> None:
    files = tuple(replace(one, size=80 << 30) for one in NANO.weights.files[:1])
    large = with_service(weights=replace(NANO.weights, files=files))
    little = replace(fake_spark.fresh(large), memory_available_mib=59_000)
    found = host_plan(large, little).change_sets[-1].blocked
    assert found is not None
    assert (found.code, found.message) == (
        "memory-insufficient",
        "61440 MiB needed for nano, 59000 MiB available of 122573 MiB",
    )
    enough = replace(little, memory_available_mib=62_000)
    serving = replace(little, instances=CONVERGED.instances)
    for seen in (enough, serving):
        assert host_plan(large, seen).change_sets[-1].blocked is None
