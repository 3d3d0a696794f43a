"""The lab's machines have the properties that the other tests rely on."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest

from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.fault_table import FAULTS
from sparkfleet_lab.names import LABEL, Lab
from sparkfleet_lab.state import State
from tests.lab.machine import Machine, difference

NGC = "nvcr.io/nvidia/vllm:26.04-py3"
HUB_IMAGE = "docker.io/vllm/vllm-openai:v0.25.1"


def test_systemd_is_the_init_system_and_nothing_has_failed(used_spark: Machine) -> None:
    assert used_spark.sh("cat /proc/1/comm") == "systemd"
    assert used_spark.sh("systemctl is-system-running") == "running"
    assert used_spark.sh("systemctl --failed --no-legend") == ""


def test_ssh_reaches_the_login_user_who_may_use_sudo_and_is_not_in_group_docker(used_spark: Machine) -> None:
    result = used_spark.ssh("id -un; sudo -n id -un; id -nG")
    assert (result.code, result.out.split("\n")[:2]) == (0, ["nvidia", "root"]), result
    assert "docker" not in result.out.split("\n")[2].split()


def test_the_machine_resembles_a_spark(used_spark: Machine) -> None:
    outcome = used_spark.ssh(
        "uname -m; nvidia-smi --query-gpu=name --format=csv,noheader; cat /etc/dgx-release; ibdev2netdev"
    )
    assert outcome.out.splitlines()[:2] == ["aarch64", "NVIDIA GB10"]
    assert 'DGX_NAME="DGX Spark"' in outcome.out
    assert "roceP2p1s0f1 port 1 ==> enP2p1s0f1np1 (Up)" in outcome.out
    assert used_spark.sh("dmidecode -s system-product-name") == "NVIDIA_DGX_Spark"


def test_the_fabric_has_a_sparks_names_jumbo_frames_and_reaches_the_other_spark(
    sparks: tuple[Machine, ...],
) -> None:
    first, second = sparks
    for name in ("enP2p1s0f1np1", "enp1s0f1np1"):
        assert first.sh(f"cat /sys/class/net/{name}/mtu") == "9000"
    assert first.ok(f"ping -c 1 -W 2 -M do -s 8000 -I enP2p1s0f1np1 {second.fabric_address}")
    assert "dev eth0" in first.sh("ip route show default")


def test_a_cold_spark_pulls_by_tag_and_by_digest_under_canonical_names(spark: Machine) -> None:
    spark.reset(cold=True)
    assert spark.sh("docker images -q") == ""
    spark.sh(f"docker pull -q {NGC}")
    pinned = spark.image(HUB_IMAGE)
    spark.sh(f"docker pull -q {pinned}")
    assert spark.image(NGC) in spark.sh(f"docker inspect -f '{{{{.RepoDigests}}}}' {NGC}")
    assert pinned.removeprefix("docker.io/") in spark.sh(f"docker inspect -f '{{{{.RepoDigests}}}}' {pinned}")


def test_every_image_has_an_arm64_entry_in_its_index(lab: Lab, lab_state: State) -> None:
    trust = ssl.create_default_context(cafile=str(lab.directory / "ca.pem"))
    accept = {"Accept": "application/vnd.docker.distribution.manifest.list.v2+json"}
    for ref, digest in lab_state.images:
        path = ref.partition("/")[2].rpartition(":")[0]
        request = urllib.request.Request(
            f"{lab_state.registry_url}/v2/{path}/manifests/{digest}", headers=accept
        )
        with urllib.request.urlopen(request, context=trust) as response:
            index = json.load(response)
        assert {entry["platform"]["architecture"] for entry in index["manifests"]} == {"amd64", "arm64"}


def test_containers_run_inside_with_gpus_and_with_the_nvidia_runtime(used_spark: Machine) -> None:
    image = used_spark.image(NGC)
    for options in ("--gpus all --network host --ipc host", "--runtime nvidia"):
        assert used_spark.sh(f"docker run --rm {options} --entrypoint echo {image} hello") == "hello"


def test_a_published_port_of_a_container_inside_answers_on_the_spark(spark: Machine) -> None:
    image = spark.image(NGC)
    spark.sh(f"docker run -d -p 8123:80 --entrypoint python3 {image} -m http.server 80")
    assert spark.ok("curl -sS --retry 20 --retry-all-errors --retry-delay 1 http://127.0.0.1:8123/")


def test_the_hub_answers_operator_and_spark_under_one_url(used_spark: Machine) -> None:
    url = f"{used_spark.state.hub_url}/api/models/openai/gpt-oss-20b"
    with urllib.request.urlopen(url) as response:
        first = json.load(response)
    assert json.loads(used_spark.sh(f"curl -sS --fail {url}"))["sha"] == first["sha"]


def test_a_reboot_keeps_address_port_names_and_trust(spark: Machine) -> None:
    spark.sh("touch /var/lib/kept /run/gone")
    spark.reboot()
    assert not spark.ok("test -e /run/gone")
    assert spark.ok("test -e /var/lib/kept")
    assert spark.ssh("true").code == 0
    assert spark.ok(f"ip -o addr show dev enP2p1s0f1np1 | grep -q {spark.fabric_address}/")
    assert spark.ok("curl -sS --fail https://nvcr.io/v2/")


def test_a_reset_leaves_nothing_of_what_a_test_did(spark: Machine) -> None:
    spark.sh("touch /etc/dirt; useradd dirt")
    spark.sh(f"docker run -d --name dirt --entrypoint sleep {spark.image(NGC)} 1000")
    before = spark.sh("docker images -q | sort")
    spark.reset()
    assert not spark.ok("test -e /etc/dirt || getent passwd dirt")
    assert spark.sh("docker ps -aq") == ""
    assert spark.sh("docker images -q | sort") == before


def test_a_snapshot_is_stable_without_changes_and_detects_each_kind_of_change(spark: Machine) -> None:
    spark.ssh("sudo true")
    first = spark.snapshot()
    spark.ssh("sudo docker ps; ls /; systemctl status; cat /etc/shadow; sudo -n true")
    second = spark.snapshot()
    assert difference(first["files"], second["files"]) == []
    assert second["docker"] == first["docker"]
    assert second["units"] == first["units"]
    spark.sh("echo x >> /etc/motd; chmod 600 /etc/dgx-release; touch -d @0 /etc/fstab; ln -sf x /etc/link")
    changed = difference(first["files"], spark.files_snapshot())
    assert {"/etc/motd", "/etc/dgx-release", "/etc/fstab", "/etc/link"} <= set(changed)


def test_two_labs_run_side_by_side_and_down_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    docker, other = Docker(), Lab(tmp_path, "other")
    lifecycle.up(docker, other, 1, print)
    try:
        assert subprocess.run(
            ["ssh", "-F", str(other.ssh_config), "spark-01", "true"], check=False, capture_output=True
        ).returncode == 0  # fmt: skip
    finally:
        lifecycle.down(docker, other, also_images=False, report=print)
    mine = f"label={LABEL}={other.prefix}"
    for args in (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q")):
        assert docker.lines(*args, "--filter", mine) == []
    assert list(tmp_path.iterdir()) == []
    assert docker.inspect("container", lab.container("spark-01")) is not None


SYMPTOMS = {
    # fault -> shell command that fails on a healthy machine and succeeds on a broken one
    "sudo-refused": "! su nvidia -c 'sudo -n true'",
    "sudo-asks": "! su nvidia -c 'sudo -n true' && echo nvidia | su nvidia -c 'sudo -k -S true'",
    "sshd-stopped": "! systemctl is-active ssh",
    "wrong-host-key": "test -e /var/lib/lab/ssh_host_ed25519_key",
    "banner": "su nvidia -c 'SSH_CLIENT=x bash -ic true' 2>/dev/null | grep -q Welcome",
    "no-python3": "! command -v python3",
    "docker-stopped": "! docker info",
    "docker-hangs": "! timeout 2 docker info",
    "no-docker": "! command -v docker",
    "docker-full": "findmnt -t tmpfs /var/lib/docker",
    "models-full": "test $(df --output=avail -k /home/nvidia/vllm | tail -1) -lt 100",
    "state-full": "test $(df --output=avail -k /var/lib/sparkfleet | tail -1) -lt 100",
    "low-memory": "grep -q '^MemAvailable: *204800 kB' /proc/meminfo",
    "reserved-memory": "grep -q '^CmaFree: *940604 kB' /proc/meminfo",
    "proprietary-driver": "grep -q 'UNIX aarch64 Kernel Module' /proc/driver/nvidia/version",
    "gpu-limited": "nvidia-smi --query-gpu=power.draw --format=csv,noheader | grep -q '^18'",
    "dpkg-locked": "systemctl is-active lab-dpkg",
    "gpu-gone": "! nvidia-smi",
    "rdma-regions": "rdma resource show mr | grep -q mrn",
    "port-taken": "ss -Hltn sport = :8000 | grep -q LISTEN",
    "foreign-netplan": "test -e /etc/netplan/40-cx7.yaml",
    "cable-out": "grep -q 0 /sys/class/net/enP2p1s0f1np1/carrier",
    "other-cage": "grep -q 1 /sys/class/net/enP2p1s0f0np0/carrier",
    "small-mtu": "a=$(ip -o -4 addr show dev enP2p1s0f1np1 | awk '{print $4}'); "
    "ping -c 1 -W 2 ${a%.*}.1 && ! ping -c 1 -W 1 -M do -s 8000 ${a%.*}.1",
    "management-lost": "test -e /usr/local/bin/networkctl",
    "ssh-hangs": "iptables -C INPUT -p tcp --dport 22 -j DROP",
    "half-by-hand": "test $(stat -c %a /home/nvidia/vllm) = 777",
    "wrong-owner": "test $(stat -c %U /home/nvidia/vllm) = root && test -e /home/nvidia/vllm/made-by-root",
    "other-tool": "docker ps --format '{{.Names}}' | grep -qx vllm_node && systemctl is-active earlyoom",
    "sudoers-broken": "! visudo -c",
    "etc-read-only": "! touch /etc/lab/x",
    "docker-removed": "! command -v docker && apt-get -s install docker.io nvidia-container-toolkit",
}


PLACES = "stat -c '%n %A %U:%G' /etc /var/lib/sparkfleet /home/nvidia/vllm* /usr/local/bin/*; ls /etc/*.d"
"""Paths that faults replace: a repair restores them."""


@pytest.mark.parametrize("name", SYMPTOMS)
def test_a_fault_is_visible_and_gone_after_its_repair(used_spark: Machine, name: str) -> None:
    assert not used_spark.ok(SYMPTOMS[name])
    before = used_spark.sh(PLACES)
    used_spark.break_(name)
    assert used_spark.ok(SYMPTOMS[name]), f"{name} is not visible"
    used_spark.repair()
    assert not used_spark.ok(SYMPTOMS[name]), f"{name} is not repaired"
    assert used_spark.sh(PLACES) == before
    assert used_spark.ssh("sudo -n docker ps").code == 0


def test_a_directory_that_was_full_keeps_its_mode(used_spark: Machine) -> None:
    used_spark.sh("install -d -m 755 /var/lib/sparkfleet")
    used_spark.break_("state-full")
    used_spark.repair()
    assert used_spark.sh("stat -c %a /var/lib/sparkfleet; rm -r /var/lib/sparkfleet") == "755"


def test_every_lasting_fault_of_a_machine_has_a_test() -> None:
    lasting = {f.name for f in FAULTS if f.role == "spark" and (f.repair or f.repair_lab)}
    assert lasting - SYMPTOMS.keys() == {"powered-off"}


def test_a_machine_that_is_off_refuses_connections_until_its_repair(used_spark: Machine) -> None:
    used_spark.break_("powered-off")
    result = used_spark.ssh("true")
    assert result.code == 255
    assert "refused" in result.err
    used_spark.repair()
    assert used_spark.ssh("true").code == 0


def test_a_wrong_host_key_is_refused_by_ssh(used_spark: Machine) -> None:
    used_spark.break_("wrong-host-key")
    result = used_spark.ssh("true")
    assert result.code == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in result.err


def test_a_killed_dockerd_is_started_again_by_systemd(used_spark: Machine) -> None:
    before = used_spark.sh("systemctl show -P MainPID docker")
    used_spark.break_("dockerd-killed")
    assert used_spark.ok(
        "for i in $(seq 50); do docker info >/dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1"
    )
    assert used_spark.sh("systemctl show -P MainPID docker") != before


def test_cut_connections_end_and_new_ones_work(used_spark: Machine) -> None:
    args = ["ssh", "-F", str(used_spark.lab.ssh_config), used_spark.name, "echo connected; sleep 60"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "connected\n"
        used_spark.break_("ssh-cut")
        assert session.wait(timeout=20) == 255
    assert used_spark.ssh("true").code == 0


def test_containers_inside_leave_no_cgroups_behind_when_their_machine_goes(spark: Machine) -> None:
    args = f"docker run -d --name inside --entrypoint sleep {spark.image(NGC)} 1000"
    inside = spark.sh(args)

    def remaining_cgroups() -> list[Path]:
        return [Path(folder) for folder, names, _ in os.walk("/sys/fs/cgroup") if inside in names]

    assert remaining_cgroups(), "the container's cgroups are not where this test expects them"
    spark.reset()
    assert remaining_cgroups() == []


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        ("hub-down", "! curl -sS --connect-timeout 2 {hub}/api/models/openai/gpt-oss-20b"),
        (
            "hub-refuses",
            "curl -sS -o /dev/null -w '%{{http_code}}' {hub}/api/models/openai/gpt-oss-20b | grep 503",
        ),
        ("hub-breaks", "! curl -sS --fail -o /dev/null {hub}/{file}"),
        ("hub-corrupts", "curl -sS --fail {hub}/{file} | sha256sum | grep -v {sha256}"),
        ("hub-slow", "! curl -sS --fail -m 2 -o /dev/null {hub}/{file}"),
    ],
)
def test_a_fault_of_the_hub_is_visible_and_gone_after_its_repair(
    used_spark: Machine, fault: str, symptom: str
) -> None:
    hub = used_spark.state.hub_url
    with urllib.request.urlopen(f"{hub}/api/models/openai/gpt-oss-20b?blobs=true") as response:
        files = json.load(response)["siblings"]
    largest = max(files, key=lambda file: file["size"])
    path = f"openai/gpt-oss-20b/resolve/main/{largest['rfilename']}"
    command = symptom.format(hub=hub, file=path, sha256=largest["lfs"]["sha256"])
    other = Machine("hub", used_spark.lab, used_spark.state)
    assert not used_spark.ok(command)
    other.break_(fault)
    assert used_spark.ok(command), f"{fault} is not visible"
    other.repair()
    assert not used_spark.ok(command), f"{fault} is not repaired"


def test_a_registry_that_is_down_is_up_again_after_its_repair(used_spark: Machine) -> None:
    registry = Machine("registry", used_spark.lab, used_spark.state)
    request = "curl -sS --connect-timeout 2 https://nvcr.io/v2/"
    registry.break_("registry-down")
    assert not used_spark.ok(request)
    registry.repair()
    assert used_spark.ok(request)
