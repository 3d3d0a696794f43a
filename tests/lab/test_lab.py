"""The lab's machines are what the other tests take them for."""

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
    answer = used_spark.ssh("id -un; sudo -n id -un; id -nG")
    assert (answer.code, answer.out.split("\n")[:2]) == (0, ["nvidia", "root"]), answer
    assert "docker" not in answer.out.split("\n")[2].split()


def test_it_looks_like_a_spark(used_spark: Machine) -> None:
    said = used_spark.ssh(
        "uname -m; nvidia-smi --query-gpu=name --format=csv,noheader; cat /etc/dgx-release; ibdev2netdev"
    )
    assert said.out.splitlines()[:2] == ["aarch64", "NVIDIA GB10"]
    assert 'DGX_NAME="DGX Spark"' in said.out
    assert "roceP2p1s0f1 port 1 ==> enP2p1s0f1np1 (Up)" in said.out
    assert used_spark.sh("dmidecode -s system-product-name") == "NVIDIA_DGX_Spark"


def test_the_fabric_has_a_sparks_names_jumbo_frames_and_reaches_the_other_spark(
    sparks: tuple[Machine, ...],
) -> None:
    here, there = sparks
    for name in ("enP2p1s0f1np1", "enp1s0f1np1"):
        assert here.sh(f"cat /sys/class/net/{name}/mtu") == "9000"
    assert here.ok(f"ping -c 1 -W 2 -M do -s 8000 -I enP2p1s0f1np1 {there.fabric_address}")
    assert "dev eth0" in here.sh("ip route show default")


def test_a_fresh_cold_spark_pulls_by_tag_and_by_digest_under_canonical_names(spark: Machine) -> None:
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
        with urllib.request.urlopen(request, context=trust) as answer:
            index = json.load(answer)
        assert {entry["platform"]["architecture"] for entry in index["manifests"]} == {"amd64", "arm64"}


def test_containers_run_inside_with_gpus_and_with_the_nvidia_runtime(used_spark: Machine) -> None:
    image = used_spark.image(NGC)
    for options in ("--gpus all --network host --ipc host", "--runtime nvidia"):
        assert used_spark.sh(f"docker run --rm {options} --entrypoint echo {image} hello") == "hello"


def test_a_published_port_of_a_container_inside_answers_on_the_spark(spark: Machine) -> None:
    image = spark.image(NGC)
    spark.sh(f"docker run -d -p 8123:80 --entrypoint python3 {image} -m http.server 80")
    assert spark.ok("curl -sS --retry 20 --retry-all-errors --retry-delay 1 http://127.0.0.1:8123/")


def test_the_hub_answers_here_and_on_the_spark_under_one_url(used_spark: Machine) -> None:
    url = f"{used_spark.state.hub_url}/api/models/openai/gpt-oss-20b"
    with urllib.request.urlopen(url) as answer:
        here = json.load(answer)
    assert json.loads(used_spark.sh(f"curl -sS --fail {url}"))["sha"] == here["sha"]


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


def test_a_snapshot_is_still_when_nothing_happens_and_sees_each_kind_of_change(spark: Machine) -> None:
    spark.ssh("sudo true")
    first = spark.everything()
    spark.ssh("sudo docker ps; ls /; systemctl status; cat /etc/shadow; sudo -n true")
    second = spark.everything()
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
        lifecycle.down(docker, other, also_images=False, say=print)
    mine = f"label={LABEL}={other.prefix}"
    for words in (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q")):
        assert docker.lines(*words, "--filter", mine) == []
    assert list(tmp_path.iterdir()) == []
    assert docker.inspect("container", lab.container("spark-01")) is not None


SIGNS = {
    # fault -> shell command that fails on a healthy machine and succeeds on the broken one
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
    "gpu-gone": "! nvidia-smi",
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
"""What faults put something else in the place of: it is as before once they are mended."""


@pytest.mark.parametrize("name", SIGNS)
def test_a_fault_shows_and_is_gone_when_mended(used_spark: Machine, name: str) -> None:
    assert not used_spark.ok(SIGNS[name])
    before = used_spark.sh(PLACES)
    used_spark.break_(name)
    assert used_spark.ok(SIGNS[name]), f"{name} does not show"
    used_spark.mend()
    assert not used_spark.ok(SIGNS[name]), f"{name} is still there"
    assert used_spark.sh(PLACES) == before
    assert used_spark.ssh("sudo -n docker ps").code == 0


def test_a_directory_that_was_full_has_the_mode_that_it_had(used_spark: Machine) -> None:
    used_spark.sh("install -d -m 755 /var/lib/sparkfleet")
    used_spark.break_("state-full")
    used_spark.mend()
    assert used_spark.sh("stat -c %a /var/lib/sparkfleet; rm -r /var/lib/sparkfleet") == "755"


def test_every_lasting_fault_of_a_machine_has_a_test() -> None:
    lasting = {f.name for f in FAULTS if f.role == "spark" and (f.mend or f.mend_lab)}
    assert lasting - SIGNS.keys() == {"powered-off"}


def test_a_machine_that_is_off_refuses_connections_until_it_is_mended(used_spark: Machine) -> None:
    used_spark.break_("powered-off")
    answer = used_spark.ssh("true")
    assert answer.code == 255
    assert "refused" in answer.err
    used_spark.mend()
    assert used_spark.ssh("true").code == 0


def test_a_wrong_host_key_is_refused_by_ssh(used_spark: Machine) -> None:
    used_spark.break_("wrong-host-key")
    answer = used_spark.ssh("true")
    assert answer.code == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in answer.err


def test_a_killed_dockerd_is_started_again_by_systemd(used_spark: Machine) -> None:
    before = used_spark.sh("systemctl show -P MainPID docker")
    used_spark.break_("dockerd-killed")
    assert used_spark.ok(
        "for i in $(seq 50); do docker info >/dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1"
    )
    assert used_spark.sh("systemctl show -P MainPID docker") != before


def test_cut_connections_end_and_new_ones_work(used_spark: Machine) -> None:
    words = ["ssh", "-F", str(used_spark.lab.ssh_config), used_spark.name, "echo there; sleep 60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "there\n"
        used_spark.break_("ssh-cut")
        assert session.wait(timeout=20) == 255
    assert used_spark.ssh("true").code == 0


def test_containers_inside_leave_no_cgroups_behind_when_their_machine_goes(spark: Machine) -> None:
    words = f"docker run -d --name inside --entrypoint sleep {spark.image(NGC)} 1000"
    inside = spark.sh(words)

    def left() -> list[Path]:
        return [Path(folder) for folder, names, _ in os.walk("/sys/fs/cgroup") if inside in names]

    assert left(), "the container's cgroups are not where this test looks"
    spark.reset()
    assert left() == []


@pytest.mark.parametrize(
    ("fault", "sign"),
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
def test_a_fault_of_the_hub_shows_and_is_gone_when_mended(used_spark: Machine, fault: str, sign: str) -> None:
    hub = used_spark.state.hub_url
    with urllib.request.urlopen(f"{hub}/api/models/openai/gpt-oss-20b?blobs=true") as answer:
        files = json.load(answer)["siblings"]
    largest = max(files, key=lambda file: file["size"])
    path = f"openai/gpt-oss-20b/resolve/main/{largest['rfilename']}"
    command = sign.format(hub=hub, file=path, sha256=largest["lfs"]["sha256"])
    other = Machine("hub", used_spark.lab, used_spark.state)
    assert not used_spark.ok(command)
    other.break_(fault)
    assert used_spark.ok(command), f"{fault} does not show"
    other.mend()
    assert not used_spark.ok(command), f"{fault} is still there"


def test_a_registry_that_is_down_is_up_again_when_mended(used_spark: Machine) -> None:
    registry = Machine("registry", used_spark.lab, used_spark.state)
    question = "curl -sS --connect-timeout 2 https://nvcr.io/v2/"
    registry.break_("registry-down")
    assert not used_spark.ok(question)
    registry.mend()
    assert used_spark.ok(question)
