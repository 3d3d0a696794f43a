"""A Spark without Docker: unknown, or first its packages and then, by another look, the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Prepare
from sparkfleet.plan import docker_install
from sparkfleet.plan.as_json import plan_data
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import EVERY_STEP, Action, HostState, Plan, Step
from sparkfleet.plan.operations import InstallPackages
from sparkfleet.plan.status import spark_status
from sparkfleet.probe.observation import Disk, Observed, WithoutRuntime
from sparkfleet.probe.packages import Packages
from sparkfleet.resources.base import Resource
from sparkfleet.runtimes import Container
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import CONVERGED, HOST, NANO

DECLARED = replace(HOST, prepare=Prepare(docker="install"))
APT = Packages(
    ("docker.io", "nvidia-container-toolkit"),
    install=(("runc", "1.0", "1.1"), ("docker.io", "", "28.2"), ("nvidia-container-toolkit", "", "1.18")),
)
BARE = replace(fake_spark.fresh(HOST), toolkit=(), packages=APT)


def without(rest: Observed = BARE, state: str = "missing") -> WithoutRuntime:
    return WithoutRuntime(
        "spark-01", f"Docker {state}: x", "Docker", "install it", (), "docker", state, rest, code="test"
    )


def test_it_is_unknown_where_nothing_is_declared_with_every_other_reason_beside_it() -> None:
    locked = {**BARE.disks, "units": Disk("/etc/systemd/system", 1, 1, read_only=True)}
    plan = host_plan(HOST, without(replace(BARE, disks=locked)))
    assert plan.state is HostState.UNKNOWN
    assert plan.unknown is not None
    assert [one.message.split()[0] for one in plan.unknown.each] == ["Docker", "the", "neither"]
    assert plan.change_sets == ()


def test_the_diagnostic_is_reported_without_the_probe_that_came_with_it() -> None:
    plan = plan_data(Plan((host_plan(HOST, without()),)))
    assert set(plan["hosts"][0]["unknown"]) == {
        "location",
        "message",
        "expected",
        "hint",
        "related",
        "severity",
        "code",
        "details",
    }
    status = spark_status("spark-01", without())
    assert type(status.unknown) is Diagnostic
    assert status.services == ()


@pytest.mark.parametrize("state", ["down", "hangs"])
def test_a_docker_that_is_there_and_does_not_answer_is_never_installed(state: str) -> None:
    assert host_plan(DECLARED, without(state=state)).state is HostState.UNKNOWN


@pytest.mark.provokes("gpu-toolkit-missing")
def test_an_unfinished_rollout_is_not_passed_over() -> None:
    assert host_plan(DECLARED, without(replace(BARE, rollout="s-1"))).state is HostState.UNKNOWN


def test_packages_come_as_apt_says_then_the_host_and_nothing_is_claimed_of_services() -> None:
    plan = host_plan(DECLARED, without())
    assert [entry.subject for entry in plan.change_sets] == ["docker", "host"]
    docker = plan.change_sets[0]
    assert [(c.action, c.name, c.key, c.old, c.new) for c in docker.fields()] == [
        (Action.CHANGE, "package", "runc", "1.0", "1.1"),
        (Action.ADD, "package", "docker.io", "", "28.2"),
        (Action.ADD, "package", "nvidia-container-toolkit", "", "1.18"),
        (Action.ADD, "service", "docker", "", "started"),
    ]
    assert [(note.name, note.key) for note in docker.notes] == [("later", "nano")]
    (install,) = docker.operations
    assert isinstance(install, InstallPackages)
    assert install.apt_arguments == (
        "runc=1.1",
        "docker.io=28.2",
        "nvidia-container-toolkit=1.18",
    )
    assert not docker.blocked


@pytest.mark.provokes("docker-restart-blocked")
def test_a_missing_toolkit_alone_is_installed_and_docker_restarted_when_nothing_runs() -> None:
    seen = replace(fake_spark.fresh(DECLARED), toolkit=(), packages=APT)
    docker = host_plan(DECLARED, seen).change_sets[0]
    (service,) = [change for change in docker.fields() if change.name == "service"]
    assert (service.action, service.old, service.new) == (Action.CHANGE, "running", "restarted")
    serving = replace(CONVERGED, toolkit=(), packages=APT)
    plan = host_plan(DECLARED, serving)
    assert plan.state is HostState.BLOCKED
    assert plan.change_sets[0].blocked is not None
    assert "docker stop nano" in plan.change_sets[0].blocked.hint


@pytest.mark.provokes("apt-conflict", "apt-package-unavailable")
@pytest.mark.parametrize(
    ("packages", "found"),
    [
        (Packages(("docker-ce or docker.io",), missing=("docker-ce or docker.io",)), "apt does not know"),
        (Packages(("docker.io",), error="E: Unmet dependencies."), "Unmet dependencies"),
        (replace(APT, remove=("containerd.io",)), "apt would remove containerd.io"),
        (None, "apt was not queried"),
    ],
)
def test_packages_that_cannot_be_had_without_harm_block_with_the_way_out(
    packages: Packages | None, found: str
) -> None:
    plan = host_plan(DECLARED, without(replace(BARE, packages=packages)))
    assert plan.state is HostState.BLOCKED
    blocked = plan.change_sets[0].blocked
    assert blocked is not None
    assert found in blocked.message
    assert "sudo apt-get" in blocked.hint


@pytest.mark.provokes("filesystem-read-only")
def test_a_read_only_system_blocks_the_packages_too() -> None:
    locked = {**BARE.disks, "programs": Disk("/usr/local/lib", 1, 1, read_only=True)}
    docker = host_plan(DECLARED, without(replace(BARE, disks=locked))).change_sets[0]
    assert docker.blocked is not None


def test_what_is_declared_of_the_spark_itself_waits_for_docker() -> None:
    declared = replace(
        DECLARED,
        prepare=Prepare(
            docker="install", resources=(Resource("group", "docker nvidia", (("member", "yes"),)),)
        ),
    )
    plan = host_plan(declared, without())
    assert plan.state is HostState.CHANGE
    assert ("later", "declared state of the host") in [(c.name, c.key) for c in plan.change_sets[0].notes]
    assert {change.name for change in plan.change_sets[1].fields()}.isdisjoint({"group"})


def test_where_all_is_there_nothing_is_installed() -> None:
    assert host_plan(DECLARED, fake_spark.converged(DECLARED)).change_sets == ()


def test_the_toolkit_is_required_only_where_a_service_requires_the_gpu() -> None:
    blind = replace(DECLARED, services=(replace(NANO, container=Container(gpus="none")),))
    assert docker_install.may_install(blind) == ("docker",)
    assert docker_install.may_install(replace(DECLARED, services=())) == ("docker", "toolkit")
    assert docker_install.may_install(Host("spark-01", (NANO,))) == ()
    assert probe_request(DECLARED).install == ("docker", "toolkit")


@pytest.mark.provokes("docker-not-prepared")
def test_a_run_of_parts_says_what_must_come_first_and_never_that_nothing_is_to_do() -> None:
    plan = host_plan(DECLARED, without())
    prepare = plan.within((Step.DOCKER, Step.HOST))
    assert prepare.change_sets[0].notes == ()
    assert plan.within((Step.HOST,)).change_sets[0].subject == "host"
    for steps in ((Step.IMAGE, Step.WEIGHTS), (Step.HOST, Step.VERIFY)):
        part = plan.within(steps)
        assert part.state is HostState.UNKNOWN
        assert part.unknown is not None
        assert "prepare.py" in part.unknown.hint
    assert plan.within(EVERY_STEP) == plan
