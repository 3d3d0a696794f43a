"""The rows of a preflight: each state of each thing, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Prepare
from sparkfleet.plan.preflight import containers
from sparkfleet.plan.preflight.checks import preflight, request
from sparkfleet.plan.preflight.model import Check, HostPreflight, State, failed, incomplete, warned
from sparkfleet.probe.preflight import PreflightSeen, read_preflight
from tests.unit.plan.nano import HOST, NANO, STOCK
from tests.unit.plan.preflight.preflight_results import DISK, data, seen

CUDA13 = replace(NANO, image=replace(NANO.image, cuda="13.0.2"))
SPARK = replace(HOST, services=(CUDA13,))
FOOTPRINTS = data()["preflight"]["footprints"]


def rows(host: Host = SPARK, **changes: Any) -> dict[str, Check]:
    return {check.name: check for check in preflight(host, seen(**changes), 0.3, 0.1).checks}


def test_a_spark_as_it_should_be_is_ok_in_every_row() -> None:
    found = preflight(SPARK, seen(), 0.3, 0.1)
    assert {check.name for check in found.checks if check.state is not State.OK} == set()
    assert found.state is State.OK
    assert rows()["system"].found == "DGX OS 7.3.1 (Ubuntu 24.04.3 LTS)"
    assert rows()["clock"].found == "+0.3 s against this machine's (± 0.1 s), synchronised"
    assert rows()["driver for nvcr.io/nvidia/vllm:26.04-py3"].found == (
        "driver 580.95.05 runs CUDA 13.0, the image has 13.0.2"
    )
    assert rows()["room for nano"].found.startswith("pull nvcr.io/nvidia/vllm:26.04-py3 9.0 GiB to pull")


def test_the_room_for_a_service_without_pins_is_unknown() -> None:
    service = replace(SPARK.services[0], image=replace(SPARK.services[0].image, digest=""))
    row = rows(replace(SPARK, services=(service,)))["room for nano"]
    assert (row.state, row.found) == (
        State.UNKNOWN,
        "the service is not pinned, so its size is unknown",
    )


def part(name: str, **changes: Any) -> dict[str, Any]:
    return {f"preflight__{name}": {**data()["preflight"][name], **changes}}


WRONG: dict[str, tuple[dict[str, Any], str, State, str]] = {
    "sudo refused": ({"sudo": {"state": "refused", "error": "a password"}}, "sudo", State.FAIL, "tee"),
    "another architecture": (part("system", arch="x86_64"), "architecture", State.FAIL, ""),
    "no DGX OS": (part("system", dgx={}), "system", State.WARN, ""),
    "an old DGX OS": (
        part("system", dgx={"DGX_SWBUILD_VERSION": "6.1"}), "system", State.WARN, "dist-upgrade",
    ),
    "a driver that does not answer": ({"preflight__gpu": {"error": "no NVML"}}, "GPU", State.FAIL, "dmesg"),
    "another GPU": (part("gpu", compute="9.0"), "GPU", State.WARN, ""),
    "swap in use": (
        {"memory": {"total_mib": 9, "available_mib": 1, "swap_total_mib": 9000, "swap_free_mib": 1}},
        "swap", State.WARN, "swapoff",
    ),
    "memory unreadable": ({"memory": {"error": "OSError"}}, "memory", State.UNKNOWN, ""),
    "no Docker": (
        {"preflight__engine": {"state": "missing", "error": "Docker is not installed"}},
        "Docker", State.FAIL, "install Docker",
    ),
    "a daemon that is down": (
        {"preflight__engine": {"state": "down", "error": "no socket"}},
        "Docker", State.FAIL, "systemctl start docker",
    ),
    "a daemon that may not be asked": (
        {"preflight__engine": {"state": "denied", "error": "permission"}}, "Docker", State.UNKNOWN, "sudo",
    ),
    "an old Docker": (part("engine", version="19.03.1"), "Docker", State.WARN, ""),
    "a slow storage driver": (part("engine", driver="vfs"), "storage driver", State.WARN, "ext4"),
    "no toolkit": (
        {"toolkit": {"programs": [], "cdi": []}}, "container toolkit", State.FAIL, "apt-get install",
    ),
    "an unreadable toolkit": ({"toolkit": {"error": "OSError"}}, "container toolkit", State.UNKNOWN, ""),
    "a read-only /etc": (
        {"disks": {**data()["disks"], "units": {**DISK, "path": "/etc/systemd/system", "read_only": True}}},
        "/etc/systemd/system writable", State.FAIL, "remount,rw",
    ),
    "a full disk": (
        {"disks": {**data()["disks"], "models": {**DISK, "free": 1 << 30}}},
        "room for nano", State.FAIL, "df -h",
    ),
    "an unreadable disk": (
        {"disks": {**data()["disks"], "images": {"error": "EIO"}}}, "disk of the images", State.UNKNOWN, "",
    ),
    "a registry without a name": (
        part("reach", **{"https://nvcr.io/v2/": {"ok": False, "step": "dns", "detail": "no such name"}}),
        "registry nvcr.io", State.FAIL, "resolvectl",
    ),
    "a hub behind a proxy": (
        part("reach", **{"https://huggingface.co/": {"ok": False, "step": "tls", "detail": "self-signed"}}),
        "hub", State.FAIL, "update-ca-certificates",
    ),
    "an unasked network": ({"preflight__reach": {"error": "RuntimeError"}}, "hub", State.UNKNOWN, ""),
    "a broken sudoers file": (
        part("footprints", sudoers_errors=["/etc/sudoers.d/x:1:3: syntax error"]),
        "sudoers", State.FAIL, "visudo -f /etc/sudoers.d/x",
    ),
    "another tool's netplan": (
        part("footprints", netplan={"/etc/netplan/40-cx7.yaml": ["enp1s0f1np1"]}),
        "netplan 40-cx7.yaml", State.WARN, "40-cx7.yaml.off",
    ),
    "earlyoom": (part("footprints", killers={"earlyoom": "active"}), "earlyoom", State.WARN, "disable"),
    "a unit by hand": (
        part("footprints", units={"/etc/systemd/system/llm.service": ["docker run", "vllm"]}),
        "unit llm.service", State.WARN, "disable --now llm.service",
    ),
    "an engine of somebody": (
        part("engine", containers=[
            {"name": "vllm", "image": "vllm/vllm-openai:x", "command": "", "state": "running", "ours": False}
        ]),
        "container vllm", State.WARN, "docker stop vllm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, name, state, remedy", WRONG.values(), ids=WRONG)
def test_what_is_wrong_has_a_row_with_its_remedy_and_hides_no_other_row(
    changes: dict[str, Any], name: str, state: State, remedy: str
) -> None:
    found = rows(**changes)
    assert found[name].state is state
    diagnostic = found[name].diagnostic
    assert diagnostic is not None
    assert remedy in diagnostic.hint
    assert diagnostic.location.startswith("spark-01")
    assert found["kernel"].state is State.OK


QUIET: dict[str, tuple[dict[str, Any], str]] = {
    "a stopped earlyoom": (part("footprints", killers={"earlyoom": "inactive"}), "earlyoom"),
    "rights of another tool": (
        part("footprints", sudoers={"/etc/sudoers.d/sparkrun": ["drop_caches"]}), "sudoers sparkrun",
    ),
    "a directory of another tool": (
        part("footprints", directories=["/etc/sparkrun"]), "directory /etc/sparkrun",
    ),
    "a stopped engine": (
        part("engine", containers=[
            {"name": "old", "image": "vllm/vllm-openai:x", "command": "", "state": "exited", "ours": False}
        ]),
        "container old",
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, name", QUIET.values(), ids=QUIET)
def test_what_does_no_harm_is_reported_and_is_ok(changes: dict[str, Any], name: str) -> None:
    assert rows(**changes)[name].state is State.OK


def test_our_own_files_and_what_is_no_engine_are_no_footprints() -> None:
    found = rows(
        **part(
            "footprints",
            netplan={"/etc/netplan/60-sparkfleet-fabric.yaml": ["enp1s0f1np1"]},
            sudoers={"/etc/sudoers.d/sparkfleet": ["NOPASSWD: ALL"]},
            units={"/etc/systemd/system/sparkfleet-nano.service": ["vllm"]},
        ),
        **part(
            "engine",
            containers=[
                {"name": "db", "image": "postgres", "command": "", "state": "running", "ours": False},
                {"name": "nano", "image": "vllm", "command": "", "state": "running", "ours": True},
            ],
        ),
    )
    assert found["other tools"].found == "no traces"


def test_unreadable_footprints_are_unknown_and_not_absent() -> None:
    found = rows(preflight__footprints={"error": "PermissionError"})
    assert found["other tools"].state is State.UNKNOWN


@pytest.mark.parametrize(
    "skew, unsure, state",
    [(4, 0, State.OK), (-6, 0.5, State.WARN), (6, 2, State.OK), (-400, 1, State.FAIL)],
)
def test_a_clock_is_judged_by_what_is_certain_of_it(skew: float, unsure: float, state: State) -> None:
    found = {check.name: check for check in preflight(SPARK, seen(), skew, unsure).checks}
    assert found["clock"].state is state


@pytest.mark.provokes("clock-skew")
def test_a_clock_that_is_off_says_how_to_correct_it() -> None:
    found = {check.name: check for check in preflight(SPARK, seen(), 60, 1).checks}["clock"].diagnostic
    assert found is not None
    assert (found.code, found.hint) == ("clock-skew", "sudo timedatectl set-ntp true")


def test_an_unreadable_clock_or_system_is_unknown() -> None:
    found = rows(preflight__clock={"error": "x"}, preflight__system={"error": "y"})
    assert found["clock"].state is found["system"].state is State.UNKNOWN


def test_a_clock_without_a_source_is_not_reported_as_synchronised() -> None:
    assert "synchronised" not in rows(**part("clock", synchronised=""))["clock"].found


def urls(host: Host) -> tuple[str, ...]:
    preflight = request(host).preflight
    assert preflight is not None
    return preflight.urls


def test_a_spark_that_is_declared_offline_is_not_asked_for_the_network() -> None:
    offline = replace(SPARK, prepare=Prepare(offline=True))
    assert urls(offline) == ()
    assert rows(offline)["network"].state is State.OK
    assert "hub" not in rows(offline)


def test_the_registries_of_all_images_and_the_declared_hub_are_asked() -> None:
    both = replace(
        HOST, services=(NANO, replace(NANO, name="b", image=STOCK)), hf_endpoint="http://hub.local/"
    )
    assert urls(both) == (
        "https://nvcr.io/v2/",
        "https://registry-1.docker.io/v2/",
        "http://hub.local/",
    )


def test_an_idle_spark_needs_no_network_and_can_do_without_the_toolkit() -> None:
    idle = replace(HOST, services=())
    assert urls(idle) == ()
    assert rows(idle, toolkit={"programs": [], "cdi": []})["container toolkit"].state is State.WARN


def test_the_image_on_the_spark_tells_its_cuda_better_than_the_lock() -> None:
    image = {
        "id": "sha256:1", "digests": [], "entrypoint": [], "env": ["CUDA_VERSION=14.0.1"], "labels": {},
        "user": "", "working_dir": "", "size": 1,
    }  # fmt: skip
    docker = {**data()["runtimes"]["docker"], "images": {CUDA13.image.pull_ref: image}}
    assert rows(runtimes={"docker": docker})["driver for nvcr.io/nvidia/vllm:26.04-py3"].state is State.WARN


def test_a_spark_that_gave_no_answer_has_every_reason_as_a_row() -> None:
    found = preflight(
        HOST,
        Diagnostic("spark-01", "no python3", related=(Diagnostic("x", "no disk", code="test"),), code="test"),
    )
    assert [check.found for check in found.checks] == ["no python3", "no disk"]
    assert found.state is State.FAIL
    unread = read_preflight("spark-01", "{")
    assert isinstance(unread, Diagnostic)


@pytest.mark.provokes(
    "architecture-unsupported", "docker-outdated", "gpu-unexpected", "gpu-unresponsive",
    "network-unreachable", "oom-killer-active", "os-outdated", "preflight-incomplete",
    "storage-driver-slow", "sudoers-invalid", "swap-in-use", "unmanaged-engine",
)  # fmt: skip
def test_each_row_has_the_code_of_its_cause() -> None:
    codes = {
        "another architecture": "architecture-unsupported",
        "an old Docker": "docker-outdated",
        "another GPU": "gpu-unexpected",
        "a driver that does not answer": "gpu-unresponsive",
        "a registry without a name": "network-unreachable",
        "earlyoom": "oom-killer-active",
        "an old DGX OS": "os-outdated",
        "memory unreadable": "preflight-incomplete",
        "a slow storage driver": "storage-driver-slow",
        "a broken sudoers file": "sudoers-invalid",
        "swap in use": "swap-in-use",
        "a unit by hand": "unmanaged-engine",
        "an engine of somebody": "unmanaged-engine",
    }
    for case, code in codes.items():
        changes, name, *_ = WRONG[case]
        diagnostic = rows(**changes)[name].diagnostic
        assert diagnostic is not None
        assert diagnostic.code == code


def test_the_worst_row_is_the_state_of_the_spark() -> None:
    def of(*checks: Check) -> State:
        return HostPreflight("s", checks).state

    passed, warning = Check("x", ""), warned("x", "", code="swap-in-use")
    unknown, failure = incomplete("x", ""), failed("x", "", code="gpu-unresponsive")
    assert of() is of(passed) is State.OK
    assert of(warning, passed) is State.WARN
    assert of(warning, unknown) is State.UNKNOWN
    assert of(unknown, failure, warning) is State.FAIL


@pytest.mark.provokes("gpu-container-failed")
def test_a_container_that_cannot_use_the_gpu_names_the_remedy() -> None:
    assert containers.run_result("GPU 0: NVIDIA GB10\n", ok=True) == Check(
        "GPU in a container", "GPU 0: NVIDIA GB10"
    )
    found = containers.run_result("\ncould not select device driver", ok=False)
    assert (found.state, found.found) == (State.FAIL, "could not select device driver")
    assert found.diagnostic is not None
    assert "nvidia-ctk" in found.diagnostic.hint


@pytest.mark.provokes("docker-unavailable")
def test_without_docker_all_other_rows_are_still_reported() -> None:
    missing = {"state": "missing", "error": "Docker is not installed"}
    found = seen(docker=missing, preflight__engine=missing, sudo={"state": "refused", "error": "no"})
    assert isinstance(found, PreflightSeen)
    assert isinstance(found.observed, Diagnostic)
    states = {check.name: check.state for check in preflight(SPARK, found).checks}
    assert states["Docker"] is states["sudo"] is State.FAIL
    assert states["GPU"] is states["hub"] is State.OK
    assert "room for nano" not in states
