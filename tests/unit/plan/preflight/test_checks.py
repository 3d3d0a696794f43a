"""The rows of a preflight: each state of each thing, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.config.resolved import Host, Prepare
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.preflight.checks import checked, request
from sparkfleet.plan.preflight.model import Check, Checked, Verdict
from sparkfleet.probe.preflight import PreflightSeen, read_preflight
from tests.unit.plan.nano import HOST, NANO, STOCK
from tests.unit.plan.preflight.seen import DISK, data, seen

CUDA13 = replace(NANO, image=replace(NANO.image, cuda="13.0.2"))
SPARK = replace(HOST, services=(CUDA13,))
FOOTPRINTS = data()["preflight"]["footprints"]


def rows(host: Host = SPARK, **changes: Any) -> dict[str, Check]:
    return {check.name: check for check in checked(host, seen(**changes), 0.3, 0.1).checks}


def test_a_spark_as_it_should_be_is_ok_in_every_row() -> None:
    found = checked(SPARK, seen(), 0.3, 0.1)
    assert {check.name for check in found.checks if check.state is not Verdict.OK} == set()
    assert found.state is Verdict.OK
    assert rows()["system"].found == "DGX OS 7.3.1 (Ubuntu 24.04.3 LTS)"
    assert rows()["clock"].found == "+0.3 s against this machine's (± 0.1 s), synchronised"
    assert rows()["driver for nvcr.io/nvidia/vllm:26.04-py3"].found == (
        "driver 580.95.05 runs CUDA 13.0, the image has 13.0.2"
    )
    assert rows()["room for nano"].found.startswith("pull nvcr.io/nvidia/vllm:26.04-py3 9.0 GiB to pull")


def part(name: str, **changes: Any) -> dict[str, Any]:
    return {f"preflight__{name}": {**data()["preflight"][name], **changes}}


WRONG: dict[str, tuple[dict[str, Any], str, Verdict, str]] = {
    "sudo refused": ({"sudo": {"state": "refused", "error": "a password"}}, "sudo", Verdict.FAIL, "tee"),
    "another architecture": (part("system", arch="x86_64"), "architecture", Verdict.FAIL, ""),
    "no DGX OS": (part("system", dgx={}), "system", Verdict.WARN, ""),
    "an old DGX OS": (
        part("system", dgx={"DGX_SWBUILD_VERSION": "6.1"}), "system", Verdict.WARN, "dist-upgrade",
    ),
    "a driver that does not answer": ({"preflight__gpu": {"error": "no NVML"}}, "GPU", Verdict.FAIL, "dmesg"),
    "another GPU": (part("gpu", compute="9.0"), "GPU", Verdict.WARN, ""),
    "swap in use": (
        {"memory": {"total_mib": 9, "available_mib": 1, "swap_total_mib": 9000, "swap_free_mib": 1}},
        "swap", Verdict.WARN, "swapoff",
    ),
    "memory unreadable": ({"memory": {"error": "OSError"}}, "memory", Verdict.UNKNOWN, ""),
    "no Docker": (
        {"preflight__engine": {"state": "missing", "error": "Docker is not installed"}},
        "Docker", Verdict.FAIL, "install Docker",
    ),
    "a daemon that is down": (
        {"preflight__engine": {"state": "down", "error": "no socket"}},
        "Docker", Verdict.FAIL, "systemctl start docker",
    ),
    "a daemon that may not be asked": (
        {"preflight__engine": {"state": "denied", "error": "permission"}}, "Docker", Verdict.UNKNOWN, "sudo",
    ),
    "an old Docker": (part("engine", version="19.03.1"), "Docker", Verdict.WARN, ""),
    "a slow storage driver": (part("engine", driver="vfs"), "storage driver", Verdict.WARN, "ext4"),
    "no toolkit": (
        {"toolkit": {"programs": [], "cdi": []}}, "container toolkit", Verdict.FAIL, "apt-get install",
    ),
    "an unreadable toolkit": ({"toolkit": {"error": "OSError"}}, "container toolkit", Verdict.UNKNOWN, ""),
    "a read-only /etc": (
        {"disks": {**data()["disks"], "units": {**DISK, "path": "/etc/systemd/system", "read_only": True}}},
        "/etc/systemd/system writable", Verdict.FAIL, "remount,rw",
    ),
    "a full disk": (
        {"disks": {**data()["disks"], "models": {**DISK, "free": 1 << 30}}},
        "room for nano", Verdict.FAIL, "df -h",
    ),
    "an unreadable disk": (
        {"disks": {**data()["disks"], "docker": {"error": "EIO"}}}, "disk of the images", Verdict.UNKNOWN, "",
    ),
    "a registry without a name": (
        part("reach", **{"https://nvcr.io/v2/": {"ok": False, "step": "dns", "detail": "no such name"}}),
        "registry nvcr.io", Verdict.FAIL, "resolvectl",
    ),
    "a hub behind a proxy": (
        part("reach", **{"https://huggingface.co/": {"ok": False, "step": "tls", "detail": "self-signed"}}),
        "hub", Verdict.FAIL, "update-ca-certificates",
    ),
    "an unasked network": ({"preflight__reach": {"error": "RuntimeError"}}, "hub", Verdict.UNKNOWN, ""),
    "a broken sudoers file": (
        part("footprints", sudoers_errors=["/etc/sudoers.d/x:1:3: syntax error"]),
        "sudoers", Verdict.FAIL, "visudo -f /etc/sudoers.d/x",
    ),
    "another tool's netplan": (
        part("footprints", netplan={"/etc/netplan/40-cx7.yaml": ["enp1s0f1np1"]}),
        "netplan 40-cx7.yaml", Verdict.WARN, "40-cx7.yaml.off",
    ),
    "earlyoom": (part("footprints", killers={"earlyoom": "active"}), "earlyoom", Verdict.WARN, "disable"),
    "a unit by hand": (
        part("footprints", units={"/etc/systemd/system/llm.service": ["docker run", "vllm"]}),
        "unit llm.service", Verdict.WARN, "disable --now llm.service",
    ),
    "an engine of somebody": (
        part("engine", containers=[
            {"name": "vllm", "image": "vllm/vllm-openai:x", "command": "", "state": "running", "ours": False}
        ]),
        "container vllm", Verdict.WARN, "docker stop vllm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, name, state, remedy", WRONG.values(), ids=WRONG)
def test_what_is_wrong_has_a_row_with_its_remedy_and_hides_no_other_row(
    changes: dict[str, Any], name: str, state: Verdict, remedy: str
) -> None:
    found = rows(**changes)
    assert found[name].state is state
    assert remedy in found[name].remedy
    assert found["kernel"].state is Verdict.OK


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
def test_what_does_no_harm_is_told_and_is_ok(changes: dict[str, Any], name: str) -> None:
    assert rows(**changes)[name].state is Verdict.OK


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
    assert found["other tools"].state is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "skew, unsure, state",
    [(4, 0, Verdict.OK), (-6, 0.5, Verdict.WARN), (6, 2, Verdict.OK), (-400, 1, Verdict.FAIL)],
)
def test_a_clock_is_judged_by_what_is_certain_of_it(skew: float, unsure: float, state: Verdict) -> None:
    found = {check.name: check for check in checked(SPARK, seen(), skew, unsure).checks}
    assert found["clock"].state is state


def test_an_unreadable_clock_or_system_is_unknown() -> None:
    found = rows(preflight__clock={"error": "x"}, preflight__system={"error": "y"})
    assert found["clock"].state is found["system"].state is Verdict.UNKNOWN


def test_a_clock_that_nobody_vouches_for_is_not_called_synchronised() -> None:
    assert "synchronised" not in rows(**part("clock", synchronised=""))["clock"].found


def test_a_spark_that_is_declared_offline_is_not_asked_for_the_network() -> None:
    offline = replace(SPARK, prepare=Prepare(offline=True))
    assert request(offline).urls == ()
    assert rows(offline)["network"].state is Verdict.OK
    assert "hub" not in rows(offline)


def test_the_registries_of_all_images_and_the_declared_hub_are_asked() -> None:
    both = replace(
        HOST, services=(NANO, replace(NANO, name="b", image=STOCK)), hf_endpoint="http://hub.local/"
    )
    assert request(both).urls == (
        "https://nvcr.io/v2/",
        "https://registry-1.docker.io/v2/",
        "http://hub.local/",
    )
    assert request(both).preflight


def test_an_idle_spark_needs_no_network_and_can_do_without_the_toolkit() -> None:
    idle = replace(HOST, services=())
    assert request(idle).urls == ()
    assert rows(idle, toolkit={"programs": [], "cdi": []})["container toolkit"].state is Verdict.WARN


def test_the_image_on_the_spark_tells_its_cuda_better_than_the_lock() -> None:
    image = {
        "id": "sha256:1", "digests": [], "entrypoint": [], "env": ["CUDA_VERSION=14.0.1"], "labels": {},
        "user": "", "working_dir": "", "size": 1,
    }  # fmt: skip
    docker = {**data()["docker"], "images": {CUDA13.image.pull_ref: image}}
    assert rows(docker=docker)["driver for nvcr.io/nvidia/vllm:26.04-py3"].state is Verdict.WARN


def test_a_spark_that_gave_no_answer_has_every_reason_as_a_row() -> None:
    found = checked(HOST, Diagnostic("spark-01", "no python3", related=(Diagnostic("x", "no disk"),)))
    assert [check.found for check in found.checks] == ["no python3", "no disk"]
    assert found.state is Verdict.FAIL
    unread = read_preflight("spark-01", "{")
    assert isinstance(unread, Diagnostic)


def test_the_worst_row_is_the_state_of_the_spark() -> None:
    def of(*states: Verdict) -> Verdict:
        return Checked("s", tuple(Check("x", state, "") for state in states)).state

    assert of() is Verdict.OK
    assert of(Verdict.WARN, Verdict.OK) is Verdict.WARN
    assert of(Verdict.WARN, Verdict.UNKNOWN) is Verdict.UNKNOWN
    assert of(Verdict.UNKNOWN, Verdict.FAIL, Verdict.WARN) is Verdict.FAIL


@pytest.mark.provokes("docker-unavailable")
def test_without_docker_all_other_rows_are_still_told() -> None:
    missing = {"state": "missing", "error": "Docker is not installed"}
    found = seen(docker=missing, preflight__engine=missing, sudo={"state": "refused", "error": "no"})
    assert isinstance(found, PreflightSeen)
    assert isinstance(found.observed, Diagnostic)
    states = {check.name: check.state for check in checked(SPARK, found).checks}
    assert states["Docker"] is states["sudo"] is Verdict.FAIL
    assert states["GPU"] is states["hub"] is Verdict.OK
    assert "room for nano" not in states
