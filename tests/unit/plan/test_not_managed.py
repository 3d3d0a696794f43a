"""What a rollout would refuse on the host is in the plan: foreign names and units, and exchanged ports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host
from sparkfleet.plan import blockers
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import HostPlan, HostState
from sparkfleet.probe.observation import Disk, Listener, Observed, ObservedPath, ObservedUnit
from sparkfleet.resources.base import Resource
from sparkfleet.runtimes import Mount
from sparkfleet.runtimes.observation import ObservedInstance
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import CONVERGED, HOST, NANO, foreign, only_entry, rows, with_service

UNIT = "sparkfleet-nano.service"
CHANGED = with_service(env=(("VLLM_LOGGING_LEVEL", "DEBUG"),))
"""A change that needs a rollout of nano."""
GATE = with_service(gate=replace(NANO.gate, timeout_s=77))
"""A change that is made in place."""


def beside(*containers: ObservedInstance) -> Observed:
    return replace(CONVERGED, instances=(*CONVERGED.instances, *containers))


def with_unit(**changes: Any) -> Observed:
    return replace(CONVERGED, units={**CONVERGED.units, UNIT: replace(CONVERGED.units[UNIT], **changes)})


def blocked(plan: HostPlan) -> tuple[Diagnostic, ...]:
    assert plan.state is HostState.BLOCKED
    return tuple(dict.fromkeys(one for own in plan.change_sets if own.blocked for one in own.blocked.each))


@pytest.mark.provokes("container-name-taken")
@pytest.mark.parametrize("name", ["nano.next", "nano.old"])
@pytest.mark.parametrize("service", ["", "tiny"])
def test_a_foreign_container_with_a_name_that_a_rollout_needs_blocks_it(name: str, service: str) -> None:
    seen = beside(foreign(name=name, service=service, state="created"))
    (found,) = blocked(host_plan(CHANGED, seen))
    assert (found.code, found.location) == ("container-name-taken", f"spark-01: container {name}")
    assert f"docker rename {name} {name}-by-hand" in found.hint
    assert host_plan(HOST, seen).state is HostState.UNCHANGED  # nothing needs the name


def test_a_foreign_container_beside_a_removed_service_blocks_the_removal() -> None:
    (found,) = blocked(host_plan(Host("spark-01"), beside(foreign(name="nano.old", state="exited"))))
    assert found.code == "container-name-taken"


@pytest.mark.parametrize("name", ["nano.next", "nano.old"])
def test_a_container_with_our_label_under_such_a_name_is_removed_with_a_line_of_the_plan(name: str) -> None:
    entry = only_entry(CHANGED, beside(foreign(name=name, service="nano", state="created")))
    assert entry.blocked is None
    assert ("container", "", name, "") in rows(entry)


@pytest.mark.parametrize("name", ["nano.next", "nano.old"])
def test_such_a_container_that_runs_on_the_port_blocks_the_rollout(name: str) -> None:
    running = foreign(name=name, service="nano")
    seen = replace(
        fake_spark.fresh(HOST),
        instances=(running,),
        listeners={8000: Listener(7, "vllm", f"0::/docker/{running.id}")},
    )
    (found,) = blocked(host_plan(HOST, seen))
    assert (found.code, found.location) == ("container-renamed", "spark-01: port 8000")
    assert "docker stop" in found.hint


MASKED = with_unit(text="", enabled="masked")
BY_HAND = with_unit(text="[Service]\nExecStart=/bin/true\n")


@pytest.mark.provokes("unit-masked")
@pytest.mark.parametrize("declared", [CHANGED, GATE, HOST, Host("spark-01")])
def test_a_masked_unit_blocks_every_change_of_its_service(declared: Host) -> None:
    (found,) = blocked(host_plan(declared, MASKED))
    assert (found.code, found.location) == ("unit-masked", f"spark-01: unit {UNIT}")
    assert f"sudo systemctl unmask {UNIT}" in found.hint


@pytest.mark.provokes("unit-not-managed")
@pytest.mark.parametrize("declared", [CHANGED, GATE, HOST, Host("spark-01")])
def test_a_unit_that_sparkfleet_did_not_write_is_never_overwritten(declared: Host) -> None:
    (found,) = blocked(host_plan(declared, BY_HAND))
    assert (found.code, found.location) == ("unit-not-managed", f"spark-01: unit {UNIT}")


@pytest.mark.parametrize("seen, old", [(MASKED, "masked"), (BY_HAND, "another's")])
def test_such_a_unit_is_one_line_of_the_plan(seen: Observed, old: str) -> None:
    assert rows(only_entry(HOST, seen)) == [("unit", UNIT, old, "enabled")]


def test_a_unit_of_such_a_name_beside_no_service_is_not_removed() -> None:
    seen = replace(
        fake_spark.fresh(Host("spark-01")), units={UNIT: ObservedUnit("[Service]\n", enabled="enabled")}
    )
    (found,) = blocked(host_plan(Host("spark-01"), seen))
    assert found.code == "unit-not-managed"


def test_a_container_of_the_services_name_that_belongs_to_another_service_blocks_it() -> None:
    seen = replace(fake_spark.fresh(HOST), instances=(foreign(name="nano", service="tiny", state="exited"),))
    (found,) = blocked(host_plan(HOST, seen))
    assert found.message == "a container of this name that belongs to the service tiny"


@pytest.mark.provokes("device-missing")
def test_a_device_that_the_host_lacks_blocks_the_rollout() -> None:
    declared = with_service(
        container=replace(NANO.container, devices=("/dev/nothing:/dev/x:rw", "/dev/fuse"))
    )
    assert {"/dev/nothing", "/dev/fuse"} <= set(probe_request(declared).paths)
    seen = replace(
        CONVERGED,
        paths={**CONVERGED.paths, "/dev/nothing": ObservedPath("absent"), "/dev/fuse": ObservedPath("other")},
    )
    (found,) = blocked(host_plan(declared, seen))
    assert (found.code, found.location) == ("device-missing", "spark-01: /dev/nothing")


def test_a_device_by_its_cdi_name_is_no_path_of_the_host() -> None:
    declared = with_service(container=replace(NANO.container, devices=("nvidia.com/gpu=all",)))
    assert "nvidia.com/gpu=all" not in probe_request(declared).paths
    seen = replace(CONVERGED, paths={**CONVERGED.paths, "nvidia.com/gpu=all": ObservedPath("absent")})
    assert host_plan(declared, seen).state is HostState.CHANGE


MOUNTED = with_service(container=replace(NANO.container, mounts=(Mount("~/plugins", "/plugins"),)))


@pytest.mark.parametrize("kind", ["absent", "broken link"])
def test_a_mount_whose_source_the_host_lacks_blocks_the_rollout(kind: str) -> None:
    assert "~/plugins" in probe_request(MOUNTED).paths
    seen = replace(CONVERGED, paths={**CONVERGED.paths, "~/plugins": ObservedPath(kind)})
    (found,) = blocked(host_plan(MOUNTED, seen))
    assert (found.code, found.location) == ("mount-missing", "spark-01: ~/plugins")
    assert "mount its disk, or create it" in found.hint


def test_a_mount_whose_source_is_there_or_is_declared_blocks_nothing() -> None:
    seen = replace(CONVERGED, paths={**CONVERGED.paths, "~/plugins": ObservedPath("directory")})
    assert host_plan(MOUNTED, seen).state is HostState.CHANGE
    lacks = replace(CONVERGED, paths={**CONVERGED.paths, "~/plugins": ObservedPath("absent")})
    made = Resource("directory", "/home/nvidia/plugins")
    declared = replace(MOUNTED, prepare=replace(MOUNTED.prepare, resources=(made,)))
    service = declared.services[0]
    assert blockers.missing_mounts(MOUNTED, service, lacks) is not None
    assert blockers.missing_mounts(declared, service, lacks) is None


def test_a_rollout_needs_space_for_its_container_and_an_update_does_not() -> None:
    disks = {**CONVERGED.disks, "images": Disk("/var/lib/docker", 1 << 40, 300 << 20)}
    seen = replace(CONVERGED, disks=disks)
    (found,) = blocked(host_plan(CHANGED, seen))
    assert (found.code, "576 MiB needed" in found.message) == ("disk-full", True)
    assert host_plan(GATE, seen).state is HostState.CHANGE


A, B, C = (replace(NANO, name=name, port=port) for name, port in (("a", 8000), ("b", 8001), ("c", 8002)))
THREE = fake_spark.converged(Host("spark-01", (A, B, C)))


def moved(**ports: int) -> HostPlan:
    services = tuple(replace(one, port=ports.get(one.name, one.port)) for one in (A, B, C))
    return host_plan(Host("spark-01", services), THREE)


@pytest.mark.provokes("port-exchange")
def test_services_that_exchange_ports_are_blocked_with_the_way_to_do_it() -> None:
    plan = moved(a=8001, b=8000)
    found = blocked(plan)
    assert {one.code for one in found} == {"port-exchange"}
    assert {one.location for one in found} == {"spark-01: port 8000", "spark-01: port 8001"}
    assert {own.subject for own in plan.change_sets if own.blocked} == {"a", "b"}


def test_a_ring_of_three_ports_is_blocked() -> None:
    assert len(blocked(moved(a=8001, b=8002, c=8000))) == 3


def test_a_service_that_takes_a_port_of_another_one_comes_after_it() -> None:
    plan = moved(a=8001, b=8002, c=8003)
    assert plan.state is HostState.CHANGE
    assert [own.subject for own in plan.change_sets] == ["c", "b", "a"]


@pytest.mark.parametrize("path", ["~/vllm", "~/vllm-compile-cache"])
def test_a_directory_that_is_a_link_to_nothing_blocks_a_rollout_and_names_both(path: str) -> None:
    link = ObservedPath("broken link", "0777", "root", "root", target="/mnt/nothing")
    (found,) = blocked(host_plan(CHANGED, replace(CONVERGED, paths={**CONVERGED.paths, path: link})))
    assert found.line.startswith(f"spark-01: {path}: a link to /mnt/nothing, which does not exist")
    assert "findmnt /mnt/nothing" in found.hint
