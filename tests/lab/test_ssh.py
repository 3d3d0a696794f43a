"""Ways to a Spark: a jump host, IPv6, another login user, other encodings; and what SSH servers refuse."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.machine import Machine
from tests.lab.serving_fleet import ServingFleet, converge_fleet, nano

UNCHANGED = "spark-01   no changes\nspark-02   no changes\n0 to change, 2 unchanged\n"


@pytest.fixture(scope="module")
def pair(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> ServingFleet:
    """Both Sparks of a fleet, converged; each test restores that."""
    return converge_fleet(lab, lab_state, tmp_path_factory.mktemp("ssh"), "spark-01", "spark-02")


@pytest.fixture(autouse=True)
def restore_declarations(pair: ServingFleet) -> Iterator[None]:
    yield
    for host in ("spark-01", "spark-02"):
        pair.set(host)


def reach(pair: ServingFleet, **ssh: Any) -> None:
    """Declare another way to spark-02."""
    pair.fleet.host("spark-02", {"ssh": ssh, **nano()})


def behind_a_jump_host(pair: ServingFleet, tmp_path: Path, *, known: str = "") -> None:
    """Make spark-02 reachable by its address in the machines' own network alone, through spark-01."""
    lab, jump, inner = pair.machines[0].lab, *pair.machines
    hosts = tmp_path / "known_hosts"
    keys = (lab.directory / "known_hosts").read_text()
    hosts.write_text(keys + f"{inner.address} {known or inner.state.machine(inner.name).host_key}\n")
    config = tmp_path / "ssh_config"
    jump_port = jump.state.machine(jump.name).ssh_port
    config.write_text(
        f"Host jump\n  HostName 127.0.0.1\n  Port {jump_port}\nHost behind\n  HostName {inner.address}\n"
        f"  ProxyJump jump\nHost *\n  User nvidia\n  IdentityFile {lab.directory / 'id_ed25519'}\n"
        f"  UserKnownHostsFile {hosts}\n  StrictHostKeyChecking yes\n"
    )
    reach(pair, hostname="behind", config_file=str(config), known_hosts_file=str(hosts))


def test_a_spark_behind_a_jump_host_is_planned_changed_and_followed(
    pair: ServingFleet, tmp_path: Path
) -> None:
    behind_a_jump_host(pair, tmp_path)
    assert pair.fleet.plan().expect(0).out == UNCHANGED
    inner = pair.machines[1]
    blob = inner.sh("find /home/nvidia/vllm/hub -name '*.safetensors' -exec readlink -f {} + | head -1")
    inner.sh(f"rm /usr/local/bin/spark-valve {blob}")
    assert "fetch " in pair.fleet.run().expect(0).err
    assert inner.ok(f"test -x /usr/local/bin/spark-valve && test -e {blob}")
    assert pair.fleet.plan().expect(0).out == UNCHANGED


def test_another_host_key_behind_a_jump_host_is_refused(pair: ServingFleet, tmp_path: Path) -> None:
    jump = pair.machines[0]
    behind_a_jump_host(pair, tmp_path, known=jump.state.machine(jump.name).host_key)
    out = pair.fleet.plan().expect(1).out
    assert "spark-01   no changes" in out
    assert "its SSH host key differs from the one in known_hosts" in out


def sshd(machine: Machine, setting: str) -> None:
    """Set one setting of sshd; "" removes it."""
    file = "/etc/ssh/sshd_config.d/00-test.conf"
    machine.sh(f"echo '{setting}' > {file}; grep -q sshd_config.d /etc/ssh/sshd_config; systemctl reload ssh")


def test_a_jump_host_that_allows_no_forwarding_is_named_with_the_setting(
    pair: ServingFleet, tmp_path: Path
) -> None:
    behind_a_jump_host(pair, tmp_path)
    sshd(pair.machines[0], "AllowTcpForwarding no")
    try:
        out = pair.fleet.plan().expect(1).out
    finally:
        sshd(pair.machines[0], "")
    assert "spark-01   no changes" in out
    assert "its jump host refuses to forward the connection" in out
    assert "AllowTcpForwarding" in out
    assert pair.fleet.plan().expect(0).out == UNCHANGED


def test_a_server_that_allows_no_forwarding_serves_all_that_needs_none(pair: ServingFleet) -> None:
    sshd(pair.machines[1], "AllowTcpForwarding no")
    try:
        pair.machines[1].sh("rm /usr/local/bin/spark-valve")
        pair.fleet.run().expect(0)
        assert pair.fleet.plan().expect(0).out == UNCHANGED
    finally:
        sshd(pair.machines[1], "")


@contextmanager
def ipv6_way(port: int) -> Iterator[int]:
    """Pass connections to a port of [::1] on to a port of 127.0.0.1; yield the former."""
    ends: list[socket.socket] = []
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        accepting = threading.Thread(target=_accept, args=(server, port, ends))
        accepting.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for end in ends:
                end.close()


def _accept(server: socket.socket, port: int, ends: list[socket.socket]) -> None:
    with suppress(OSError):
        while True:
            caller, _ = server.accept()
            called = socket.create_connection(("127.0.0.1", port))
            ends += [caller, called]
            for pair in ((caller, called), (called, caller)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_a_spark_with_an_ipv6_address_alone(pair: ServingFleet, tmp_path: Path) -> None:
    inner = pair.machines[1]
    machine = inner.state.machine(inner.name)
    hosts, key = tmp_path / "known_hosts", str(inner.lab.directory / "id_ed25519")
    with ipv6_way(machine.ssh_port) as port:
        hosts.write_text(f"[::1]:{port} {machine.host_key}\n")
        way = {"hostname": "::1", "port": port, "user": "nvidia", "key": key, "known_hosts_file": str(hosts)}
        reach(pair, **way)
        assert pair.fleet.plan().expect(0).out == UNCHANGED
        inner.sh("rm /usr/local/bin/spark-valve")
        pair.fleet.run().expect(0)
        assert pair.fleet.plan().expect(0).out == UNCHANGED
    out = pair.fleet.plan().expect(1).out
    assert f"SSH connection refused ([::1]:{port})" in out


@pytest.mark.parametrize("checking", ["yes", "ask"])
def test_an_unknown_host_key_is_refused_without_a_terminal(
    pair: ServingFleet, tmp_path: Path, checking: str
) -> None:
    inner = pair.machines[1]
    (tmp_path / "known_hosts").write_text("")
    config = tmp_path / "ssh_config"
    shutil.copy(inner.lab.ssh_config, config)
    config.write_text(config.read_text().replace("  StrictHostKeyChecking yes\n", ""))
    options = {"strict_host_key_checking": checking}
    known = str(tmp_path / "known_hosts")
    reach(pair, config_file=str(config), known_hosts_file=known, options=options)
    out = pair.fleet.plan().expect(1).out
    assert "spark-01   no changes" in out
    assert "its SSH host key is not known" in out
    assert f"UserKnownHostsFile={known}" in out or "-F" in out
    assert not (tmp_path / "known_hosts").read_text()


def test_another_login_user_is_planned_truly_and_one_without_a_login_is_named(pair: ServingFleet) -> None:
    inner = pair.machines[1]
    inner.sh(
        "useradd -m -s /bin/bash -G sudo ops; echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops;"
        "mkdir -p /home/ops/.ssh; cp /home/nvidia/.ssh/authorized_keys /home/ops/.ssh/;"
        "chown -R ops: /home/ops"
    )
    before = inner.snapshot()
    reach(pair, user="ops")
    out = pair.fleet.plan("--limit", "spark-02").expect(2).out
    assert "/home/nvidia/vllm" in out
    assert "/home/ops/vllm" in out
    reach(pair, user="nobody-here")
    out = pair.fleet.plan().expect(1).out
    assert "SSH refused the login" in out
    assert "spark-01   no changes" in out
    assert inner.inspect_all() == before["docker"]
    assert not inner.ok("test -e /home/ops/vllm")


LATIN_1 = r"b\344\366\374"
"""For printf: letters with umlauts, of which no byte is UTF-8."""


def test_output_and_names_that_are_not_utf_8_change_nothing(pair: ServingFleet) -> None:
    inner = pair.machines[1]
    shell, cache = "/home/nvidia/.bashrc", "/home/nvidia/vllm-compile-cache"
    inner.sh(
        f"cp {shell} /root/bashrc; cp /etc/fstab /root/fstab; cp /etc/environment /root/environment; set -e;"
        f"{{ echo \"printf '{LATIN_1}\\n'\"; cat /root/bashrc; }} > {shell};"
        f"printf '# {LATIN_1}\\n' >> /etc/fstab;"
        f"touch \"{cache}/$(printf '{LATIN_1}')\"; echo LC_ALL=de_DE.ISO-8859-1 >> /etc/environment"
    )
    try:
        assert pair.fleet.plan().expect(0).out == UNCHANGED
        assert json.loads(pair.fleet.plan("--json").expect(0).out)
        pair.set("spark-02", max_num_seqs=3)
        assert "nano promote" in pair.fleet.run().expect(0).err
        pair.fleet.plan().expect(0)
    finally:
        inner.sh(f"cp /root/bashrc {shell}; cp /root/fstab /etc/fstab; cp /root/environment /etc/environment")
        inner.sh(f"rm {cache}/b*")
    pair.set("spark-02")
    pair.fleet.run().expect(0)
