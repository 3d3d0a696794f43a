from __future__ import annotations

import io
import re
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import machines
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import Network, State
from tests.unit.lab.recorder import Recorder


def files_of(lab: Lab) -> None:
    lab.directory.mkdir(parents=True)
    (lab.directory / "id_ed25519.pub").write_text("ssh-ed25519 LOGIN\n")
    (lab.directory / "ca.pem").write_text("authority\n")


def test_privileged_is_taken_where_it_works() -> None:
    assert machines.find_privileges(Recorder(), "image")[0] == "--privileged"


def test_where_it_is_refused_each_capability_of_the_bounding_set_is_asked_for() -> None:
    docker = Recorder(outputs={"run --rm --privileged": (125, "operation not permitted")})
    args = machines.find_privileges(docker, "image")
    assert args[:2] == ("--cap-drop", "ALL")
    assert "--privileged" not in args
    assert "seccomp=unconfined" in args


def test_an_engine_that_does_not_know_the_newest_capabilities_is_asked_without_them() -> None:
    calls: list[tuple[str, ...]] = []

    class Old(Recorder):
        def attempt(self, *args: str, **rest: Any) -> Any:
            calls.append(args)
            refused = "--privileged" in args or "CHECKPOINT_RESTORE" in args or "BPF" in args
            return Recorder(outputs={"run": (125, "unknown capability") if refused else ""}).attempt(*args)

    args = machines.find_privileges(Old(), "image")
    assert not {"BPF", "PERFMON", "CHECKPOINT_RESTORE"} & set(args)


@pytest.mark.provokes("lab-requirement-missing")
def test_an_engine_that_gives_no_rights_is_an_error_with_its_message() -> None:
    with pytest.raises(SparkfleetError, match="not today"):
        machines.find_privileges(Recorder(outputs={"run": (125, "not today")}), "image")


def test_capabilities_are_read_by_the_kernels_bit_numbers() -> None:
    status = "Name:\tx\nCapBnd:\t0000000000200003\n"
    assert machines.capabilities(status) == ("CHOWN", "DAC_OVERRIDE", "SYS_ADMIN")


def test_a_machine_listens_on_loopback_alone_and_the_real_registries_names_lead_to_the_labs(
    lab: Lab, state: State
) -> None:
    args = machines.create_args(lab, state, state.machine("spark-02"))
    assert [args[i + 1] for i, word in enumerate(args) if word == "-p"] == ["127.0.0.1:40002:22"]
    assert args[args.index("--ip") + 1] == "10.130.1.12"
    hosts = {word for word in args if word.startswith("--add-host=")}
    assert {"--add-host=nvcr.io:10.130.1.2", "--add-host=registry-1.docker.io:10.130.1.2"} <= hosts
    assert args[-1] == "sparkfleet-lab/spark:1"


def test_in_a_ring_both_ends_of_a_cable_are_on_its_networks_and_port_0_leads_to_port_1(state: State) -> None:
    three = [replace(state.machines[0], name=f"spark-0{number}", number=number) for number in (1, 2, 3)]
    networks = tuple(Network(f"x-ring{number}", f"10.140.{number}.0/24") for number in range(1, 7))
    ring = replace(state, ring=networks)
    at = [{name: network for network, name in machines.cable_ends(ring, machine)} for machine in three]
    for own, following in ((0, 1), (1, 2), (2, 0)):
        assert at[own]["enp1s0f0np0"] == at[following]["enp1s0f1np1"]
        assert at[own]["enP2p1s0f0np0"] == at[following]["enP2p1s0f1np1"]
    assert {network for one in at for network in one.values()} == set(networks)


def test_a_machine_gets_its_own_host_key_and_both_links_before_it_starts(lab: Lab, state: State) -> None:
    files_of(lab)
    docker = Recorder()
    machines.start_machine(docker, lab, state, state.machine("spark-01"))
    name = lab.container("spark-01")
    assert docker.lines_called[-3:] == [
        f"network connect --ip 10.130.3.11 x-link2 {name}",
        f"cp - {name}:/",
        f"start {name}",
    ]
    with tarfile.open(fileobj=io.BytesIO(docker.fed[0])) as archive:
        modes = {member.name: (oct(member.mode), member.uid) for member in archive.getmembers()}
        nics = (archive.extractfile("etc/lab/nics") or io.BytesIO()).read().decode()
    assert modes["etc/ssh/ssh_host_ed25519_key"] == ("0o600", 0)
    assert modes["home/nvidia/.ssh/authorized_keys"] == ("0o600", 1000)
    assert nics == "10.130.2.11 enP2p1s0f1np1 9000\n10.130.3.11 enp1s0f1np1 9000\n"


def test_each_machine_has_a_machine_id_of_its_own(lab: Lab, state: State) -> None:
    files_of(lab)
    first = state.machine("spark-01")
    both = (first, replace(first, host_key=f"{first.host_key}x"))
    files = [{one.path: one.data for one in machines.machine_files(lab, state, machine)} for machine in both]
    first_id, second_id = (one["etc/machine-id"] for one in files)
    assert first_id != second_id
    assert re.fullmatch(rb"[0-9a-f]{32}\n", first_id)


def test_a_machine_that_does_not_come_up_is_an_error_with_the_units_that_failed(
    lab: Lab, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "BOOT_SECONDS", 0.01)
    name = lab.container("spark-01")
    docker = Recorder(outputs={f"exec {name} systemctl --failed": "docker.service loaded failed failed"})
    with pytest.raises(SparkfleetError, match=r"docker\.service loaded failed"):
        machines.wait_until_up(docker, lab, state.machine("spark-01"))


def test_of_cgroup_version_1_each_hierarchy_is_shown_by_itself_of_version_2_the_one() -> None:
    first = (
        "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup c rw\n"
    )
    assert machines.cgroup_mounts(first) == (
        "--tmpfs",
        "/sys/fs/cgroup",
        "-v",
        "/sys/fs/cgroup/cpu:/sys/fs/cgroup/cpu:rw",
    )
    second = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert machines.cgroup_mounts(second) == ("-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw")


def test_a_machine_with_the_containerd_image_store_has_its_own_image_and_no_images_of_the_warm_volume(
    lab: Lab, state: State
) -> None:
    files_of(lab)
    machine = replace(state.machines[0], containerd=True)
    other = replace(state, containerd_image="sparkfleet-lab/spark-containerd:1", warm_volume="warm")
    docker = Recorder()
    machines.start_machine(docker, lab, other, machine)
    (created,) = (args for args in docker.calls if args[0] == "create")
    assert created[-1] == "sparkfleet-lab/spark-containerd:1"
    volumes = [created[at + 1] for at, word in enumerate(created) if word == "-v"]
    assert {"/var/lib/docker", "/var/lib/containerd"} <= set(volumes)
    assert not any(args[:2] == ("volume", "create") for args in docker.calls)
