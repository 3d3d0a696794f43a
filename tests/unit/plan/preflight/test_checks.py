"""The rows of a preflight: each state of each thing, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Fabric, Host, Member, Prepare
from sparkfleet.plan.preflight import containers
from sparkfleet.plan.preflight.checks import preflight, request
from sparkfleet.plan.preflight.model import Check, HostPreflight, State, failed, incomplete, warned
from sparkfleet.probe.preflight import ObservedPreflight, read_preflight
from tests.unit.config.fleet_files import image_of
from tests.unit.plan.nano import HOST, NANO, STOCK
from tests.unit.plan.preflight.preflight_results import DISK, data, seen

CUDA13 = replace(NANO, image=replace(image_of(NANO), cuda="13.0.2"))
SPARK = replace(HOST, services=(CUDA13,))
FOOTPRINTS = data()["preflight"]["footprints"]


def rows(host: Host = SPARK, **changes: Any) -> dict[str, Check]:
    return {check.name: check for check in preflight(host, seen(**changes), 0.3, 0.1).checks}


def test_docker_is_no_row_where_nothing_runs_in_containers() -> None:
    bare = replace(SPARK, services=())
    found = rows(bare, preflight__engine=None)
    assert not {"Docker", "storage driver", "container toolkit"} & set(found)
    assert {"Docker", "storage driver", "container toolkit"} < set(rows(bare))


def test_a_spark_as_it_should_be_is_ok_in_every_row() -> None:
    found = preflight(SPARK, seen(), 0.3, 0.1)
    assert {check.name for check in found.checks if check.state is not State.OK} == set()
    assert found.state is State.OK
    assert rows()["system"].found == "DGX OS 7.6.0 (Ubuntu 24.04.3 LTS; factory image 7.2.3)"
    assert rows()["kernel"].found == "6.17.0-1032-nvidia"
    assert rows()["kernel memory"].found == "CmaFree 60000 kB of CmaTotal 65536 kB"
    assert rows()["GPU driver"].found == "580.95.05, open kernel modules"
    assert rows()["GPU power"].found == "4.5 W at 208 MHz, 0 % busy"
    assert rows()["free memory blocks"].found.endswith("free memory in blocks of 16 MiB or more")
    assert rows()["container toolkit"].found == "nvidia-container-runtime-hook; mode auto"
    assert rows()["clock"].found == "+0.3 s against this machine's (± 0.1 s), synchronised"
    assert rows()["driver for nvcr.io/nvidia/vllm:26.04-py3"].found == (
        "driver 580.95.05 runs CUDA 13.0, the image has 13.0.2"
    )
    assert rows()["room for nano"].found.startswith("pull nvcr.io/nvidia/vllm:26.04-py3 9.0 GiB to pull")


def test_the_room_for_a_service_without_pins_is_unknown() -> None:
    service = replace(SPARK.services[0], image=replace(image_of(SPARK.services[0]), digest=""))
    row = rows(replace(SPARK, services=(service,)))["room for nano"]
    assert (row.state, row.found) == (
        State.UNKNOWN,
        "the service is not pinned, so its size is unknown",
    )


def part(name: str, **changes: Any) -> dict[str, Any]:
    return {f"preflight__{name}": {**data()["preflight"][name], **changes}}


def machine(*, driver: str | None = "", options: str = "", **changes: Any) -> dict[str, Any]:
    texts = dict(data()["machine"]["texts"])
    texts["/proc/cmdline"] = f"root=UUID=1 {options} ro\n"
    if driver != "":
        texts["/proc/driver/nvidia/version"] = driver
    return {"machine": {**data()["machine"], "texts": texts, **changes}}


def load(*samples: tuple[float | None, float | None, float | None]) -> dict[str, Any]:
    return part("load", samples=[dict(zip(("percent", "watts", "mhz"), one, strict=True)) for one in samples])


WRONG: dict[str, tuple[dict[str, Any], str, State, str]] = {
    "sudo refused": ({"sudo": {"state": "refused", "error": "a password"}}, "sudo", State.FAIL, "tee"),
    "another architecture": (part("system", arch="x86_64"), "architecture", State.FAIL, ""),
    "no DGX OS": (part("system", dgx={}), "system", State.WARN, ""),
    "an old DGX OS": (
        part("system", dgx={"DGX_SWBUILD_VERSION": "6.1"}), "system", State.WARN, "dist-upgrade",
    ),
    "an old DGX OS after an update": (
        part("system", dgx={"DGX_SWBUILD_VERSION": "7.2.3", "DGX_OTA_VERSION": "6.9"}),
        "system", State.WARN, "dist-upgrade",
    ),
    "reserved memory": (
        machine(kernel="7.0.0-1019-nvidia", cma=[0, 940604]),
        "kernel memory", State.WARN, "nvidia-spark-grub-kho",
    ),
    "kernel memory that the kernel does not report": (
        machine(cma=[None, None]), "kernel memory", State.UNKNOWN, "grep Cma",
    ),
    "proprietary modules": (
        machine(driver="NVRM version: NVIDIA UNIX aarch64 Kernel Module  580.173.02  Tue Jul  7 2026"),
        "GPU driver", State.FAIL, "apt-get install nvidia-driver-580-open",
    ),
    "proprietary modules of a driver that still starts": (
        machine(driver="NVRM version: NVIDIA UNIX aarch64 Kernel Module  580.159.03  Mon Apr 13 2026"),
        "GPU driver", State.WARN, "nvidia-driver-580-open",
    ),
    "no loaded driver": (machine(driver=None), "GPU driver", State.UNKNOWN, "/proc/driver/nvidia/version"),
    "a driver of an unknown kind": (machine(driver="nouveau"), "GPU driver", State.UNKNOWN, ""),
    "a GPU that gets too little power": (
        load((96, 18.4, 611), (95, 18.1, 611), (96, 18.0, 611)), "GPU power", State.WARN, "unplug",
    ),
    "a GPU that is busy for nothing": (
        load((96, 20, 2411), (96, 19, 2411), (96, 19, 2411)), "GPU power", State.WARN, "restart the service",
    ),
    "a GPU without a power reading": (load((96, None, 2411)), "GPU power", State.UNKNOWN, "POWER"),
    "a load that cannot be read": (
        {"preflight__load": {"error": "OSError: no driver"}}, "GPU power", State.UNKNOWN, "nvidia-smi",
    ),
    "fragmented memory": (
        part("blocks", free=[9 << 20, 5 << 20, 2 << 20, 900_000, 400_000, 100_000, *[9] * 6, 27, 0]),
        "free memory blocks", State.WARN, "compact_memory",
    ),
    "unreadable blocks": (
        {"preflight__blocks": {"error": "PermissionError"}}, "free memory blocks", State.UNKNOWN, "",
    ),
    "no blocks at all": (part("blocks", free=[]), "free memory blocks", State.UNKNOWN, "buddyinfo"),
    "package sources that are gone": (
        part("nvidia", broken_sources=["/etc/apt/sources.list.d/dgx.sources"]),
        "package sources", State.WARN, "sed -i",
    ),
    "unreadable package sources": (
        {"preflight__nvidia": {"error": "OSError"}}, "package sources", State.UNKNOWN, "",
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


NEAR: dict[str, tuple[dict[str, Any], str]] = {
    "contiguous memory that is all free": (machine(cma=[65536, 65536]), "kernel memory"),
    "no contiguous memory": (machine(cma=[0, 0], kernel="7.0.0-1019-nvidia"), "kernel memory"),
    "kho=off with kernel 7.0": (machine(kernel="7.0.0-1019-nvidia", options="kho=off"), "kernel"),
    "kho=on with kernel 6.17": (machine(options="kho=off kho=on"), "kernel"),
    "kho=off with another kernel": (machine(kernel="6.170.0-1-nvidia", options="kho=off"), "kernel"),
    "a GPU that is busy at full power": (load((96, 45.2, 2411)), "GPU power"),
    "an idle GPU": (load((12, 14.0, 611)), "GPU power"),
    "a GPU that took little power for a moment": (load((96, 18, 2411), (97, 52, 2411)), "GPU power"),
    "little free memory": (part("blocks", free=[1000] * 10 + [0, 0, 0, 0]), "free memory blocks"),
    "blocks of 4 MiB at most": (part("blocks", free=[10] * 10 + [20_000]), "free memory blocks"),
    "no package sources of NVIDIA": (part("nvidia", sources=[]), "package sources"),
    "a factory image without an update": (part("system", dgx={"DGX_SWBUILD_VERSION": "7.2.3"}), "system"),
}  # fmt: skip


@pytest.mark.parametrize("changes, name", NEAR.values(), ids=NEAR)
def test_what_only_resembles_a_fault_is_ok(changes: dict[str, Any], name: str) -> None:
    assert rows(**changes)[name].state is State.OK


@pytest.mark.provokes("kernel-option-needless")
def test_a_kernel_that_does_not_need_its_option_is_a_warning() -> None:
    row = rows(**machine(options="kho=off"))["kernel"]
    assert (row.state, row.diagnostic and row.diagnostic.code) == (State.WARN, "kernel-option-needless")


@pytest.mark.parametrize(
    "machine_part", [{"error": "ValueError"}, None, {**data()["machine"], "errors": {"/proc/cmdline": "EIO"}}]
)
def test_an_unreadable_kernel_is_unknown_and_no_error(machine_part: Any) -> None:
    assert rows(machine=machine_part)["kernel"].state is State.UNKNOWN


def test_nothing_of_an_unreadable_machine_is_ok_or_an_error() -> None:
    found = rows(machine={"error": "ValueError"})
    assert found["kernel memory"].state is found["GPU driver"].state is State.UNKNOWN
    assert "ValueError" in found["kernel memory"].found


@pytest.mark.provokes("memory-fragmented")
@pytest.mark.provokes("gpu-power-limited")
@pytest.mark.provokes("package-source-missing")
def test_each_fault_of_the_machine_has_a_code_of_its_own() -> None:
    names = {
        "memory-fragmented": ("fragmented memory", "free memory blocks"),
        "gpu-power-limited": ("a GPU that gets too little power", "GPU power"),
        "package-source-missing": ("package sources that are gone", "package sources"),
    }
    for code, (case, name) in names.items():
        diagnostic = rows(**WRONG[case][0])[name].diagnostic
        assert diagnostic is not None
        assert diagnostic.code == code


def test_a_member_of_a_cluster_fails_with_reserved_memory_unless_it_uses_tcp() -> None:
    reserved = machine(cma=[0, 940604])
    member = Member("pair", 0, ("spark-01", "spark-02"), "mp", Fabric(), "nano")
    assert rows(replace(SPARK, member=member), **reserved)["kernel memory"].state is State.FAIL
    by_tcp = replace(member, fabric=Fabric(tcp=True))
    assert rows(replace(SPARK, member=by_tcp), **reserved)["kernel memory"].state is State.WARN


def test_the_remedy_of_a_missing_card_names_the_cable_before_a_reboot() -> None:
    member = Member("pair", 0, ("spark-01", "spark-02"), "mp", Fabric(), "nano")
    fabric = {
        "links": [], "management": ["eth0"], "management_address": "", "networks": [], "renderer": "networkd",
        "netplan": True, "own": None, "own_mode": "", "foreign": [], "verbs": False, "address_owners": [],
    }  # fmt: skip
    row = rows(replace(SPARK, member=member), fabric=fabric)["fabric links"]
    assert row.state is State.FAIL
    assert row.diagnostic is not None
    assert row.diagnostic.hint.index("cable") < row.diagnostic.hint.index("reboot")
    assert "fabric links" not in rows(fabric=fabric)
    assert rows(replace(SPARK, member=member))["fabric links"].state is State.UNKNOWN


def test_an_image_of_a_month_is_compared_with_the_driver_by_its_name() -> None:
    image = replace(image_of(NANO), tag="26.08-py3")
    row = rows(replace(SPARK, services=(replace(NANO, image=image),)))[f"driver for {image.display}"]
    assert row.state is State.WARN
    assert "the image has 13.4.1 and was built for driver 615.65" in row.found
    assert row.diagnostic is not None
    assert "entrypoint" in row.diagnostic.hint


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
    docker = {**data()["runtimes"]["docker"], "images": {CUDA13.image_names[0]: image}}
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
    assert isinstance(found, ObservedPreflight)
    assert isinstance(found.state, Diagnostic)
    states = {check.name: check.state for check in preflight(SPARK, found).checks}
    assert states["Docker"] is states["sudo"] is State.FAIL
    assert states["GPU"] is states["hub"] is State.OK
    assert "room for nano" not in states
