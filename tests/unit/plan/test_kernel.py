"""A kernel or driver with which a start fails blocks it before anything stops; a slow one is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.diagnostic import Severity
from sparkfleet.desired_state import Fabric, Host
from sparkfleet.plan import kernel
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeKind, HostState
from sparkfleet.probe.machine import OPEN, PROPRIETARY, ObservedMachine
from sparkfleet.runtimes import Container
from tests.unit.plan.cluster import cluster_fixtures as pair
from tests.unit.plan.nano import CONVERGED, HOST, NGC, with_service

SOUND = ObservedMachine(
    kernel="7.0.0-1019-nvidia",
    parameters=("kho=off", "quiet"),
    driver="580.178.04",
    flavour=OPEN,
    cma_total_kib=0,
    cma_free_kib=0,
)
RESERVED = replace(SOUND, parameters=(), cma_free_kib=940604)
CLOSED = replace(SOUND, driver="580.173.02", flavour=PROPRIETARY)
CHANGED = with_service(flags=(("max-model-len", 65536),))


def codes(host: Host, seen: ObservedMachine) -> tuple[list[str], list[str]]:
    """Return the codes of what blocks the plan, and of its warnings on kernel and driver."""
    base = CONVERGED if host.member is None else pair.converged(pair.host(host.member.rank))
    plan, name = host_plan(host, replace(base, machine=seen)), host.services[0].name
    (entry,) = (one for one in plan.change_sets if one.subject == name)
    assert entry.kind is ChangeKind.RECREATE
    noted = [note.diagnostic.code for note in entry.notes if note.diagnostic and note.name == "warning"]
    own = {"kernel-memory-reserved", "kernel-option-needless", "driver-flavour", "driver-mismatch"}
    return [one.code for one in entry.blocked.each] if entry.blocked else [], [x for x in noted if x in own]


def member(*, tcp: bool = False) -> Host:
    declared = pair.host(0, flags=(("tensor-parallel-size", 2), ("max-model-len", 65536)))
    assert declared.member is not None
    return replace(declared, member=replace(declared.member, fabric=Fabric(tcp=tcp)))


def test_a_sound_kernel_and_driver_are_not_mentioned() -> None:
    assert codes(CHANGED, SOUND) == codes(member(), SOUND) == ([], [])


@pytest.mark.provokes("kernel-memory-reserved")
def test_a_member_of_a_cluster_is_blocked_before_anything_stops_while_the_kernel_reserves_memory() -> None:
    assert codes(member(), RESERVED) == (["kernel-memory-reserved"], [])
    (entry,) = host_plan(member(), replace(pair.converged(pair.host(0)), machine=RESERVED)).change_sets
    assert entry.blocked is not None
    assert "kho=off" in entry.blocked.hint
    assert "nvidia-spark-grub-kho" in entry.blocked.hint


def test_reserved_memory_is_a_warning_for_a_single_spark_and_over_tcp() -> None:
    assert codes(CHANGED, RESERVED) == codes(member(tcp=True), RESERVED) == ([], ["kernel-memory-reserved"])


@pytest.mark.parametrize(
    "seen",
    [
        replace(SOUND, cma_total_kib=65536, cma_free_kib=65536),
        replace(SOUND, cma_total_kib=65536, cma_free_kib=65536 + 10_000),  # the sum of all cores' counters
        replace(SOUND, cma_total_kib=None, cma_free_kib=940604),
        replace(SOUND, cma_total_kib=0, cma_free_kib=None),
        ObservedMachine(),
    ],
)
def test_memory_that_is_not_above_its_total_or_unknown_blocks_nothing(seen: ObservedMachine) -> None:
    assert codes(member(), seen) == ([], [])
    assert kernel.reserved_memory(member(), seen) is None


def test_a_needless_option_is_a_warning_where_sparks_are_linked() -> None:
    seen = replace(SOUND, kernel="6.17.0-1032-nvidia")
    assert codes(member(), seen) == ([], ["kernel-option-needless"])
    assert codes(CHANGED, seen) == ([], [])
    assert codes(member(), replace(seen, parameters=("kho=off", "kho=on"))) == ([], [])


@pytest.mark.provokes("driver-flavour")
def test_proprietary_modules_that_cannot_start_the_gpu_block_a_start() -> None:
    assert codes(CHANGED, CLOSED) == (["driver-flavour"], [])


def test_proprietary_modules_of_an_older_driver_are_a_warning() -> None:
    assert codes(CHANGED, replace(CLOSED, driver="580.159.03")) == (
        [],
        ["driver-flavour"],
    )


def test_a_driver_of_unknown_flavour_blocks_nothing() -> None:
    assert codes(CHANGED, replace(SOUND, driver="", flavour="")) == ([], [])


def test_a_service_without_the_gpu_needs_no_driver() -> None:
    host = with_service(container=Container(gpus="none"), flags=(("max-model-len", 65536),))
    assert kernel.obstacles(host, host.services[0], CLOSED) is None
    assert kernel.warnings(host, host.services[0], RESERVED) == []


def test_a_service_that_runs_on_unchanged_is_not_blocked() -> None:
    plan = host_plan(HOST, replace(CONVERGED, machine=replace(CLOSED, cma_free_kib=940604)))
    assert (plan.state, plan.change_sets) == (HostState.UNCHANGED, ())


def test_an_image_that_was_built_for_a_newer_driver_is_named_before_it_is_pulled() -> None:
    image = replace(NGC, tag="26.08-py3", digest="sha256:" + "8" * 64, engine_version="0.27.1")
    host = with_service(image=image)
    assert codes(host, SOUND) == ([], ["driver-mismatch"])
    seen = replace(CONVERGED, machine=SOUND, images={**CONVERGED.images, image.pull_ref: None})
    (entry,) = (one for one in host_plan(host, seen).change_sets if one.subject == "nano")
    (note,) = (one for one in entry.notes if one.diagnostic and one.diagnostic.code == "driver-mismatch")
    assert "580.178.04 is older than 615.65" in note.text
    assert note.diagnostic is not None
    assert note.diagnostic.severity is Severity.WARNING
    newer = replace(SOUND, driver="615.65.06")
    assert codes(host, newer) == codes(host, replace(SOUND, driver="")) == ([], [])
    assert codes(with_service(image=replace(image, tag="26.04-py3")), SOUND) == ([], [])
