"""The Docker runtime beyond its API."""

from __future__ import annotations

import pytest

from sparkfleet import runtimes
from sparkfleet.runtimes.base import Instance, PortOwner, Role
from sparkfleet.runtimes.docker.collectors import probe
from sparkfleet.runtimes.docker.onhost.driver import DockerRuntime

OUTER, INNER = "a" * 64, "b" * 64
CGROUPS = {
    "cgroupfs": (f"0::/docker/{INNER}", True),
    "cgroup v1": (f"12:memory:/docker/{INNER}\n1:cpu:/docker/{INNER}\n", True),
    "systemd": (f"0::/system.slice/docker-{INNER}.scope\n", True),
    "a parent of the daemon's own": (f"4:memory:/containers/{INNER}\n0::/containers/{INNER}", True),
    "a Spark that is a container itself": (f"0::/docker/{OUTER}/containers/{INNER}", True),
    "a process that is ending": (f"0::/docker/{INNER} (deleted)\n", True),
    "another container": (f"0::/docker/{OUTER}", False),
    "a process of no container": ("0::/system.slice/ssh.service", False),
}


@pytest.mark.parametrize("local", ["127.0.0.1:7355/img@sha256:1", ""])
def test_a_program_runs_in_the_image_by_its_name_on_the_spark_without_network_or_pull(
    monkeypatch: pytest.MonkeyPatch, local: str
) -> None:
    monkeypatch.setattr(DockerRuntime, "name_of", lambda *_: local)
    command = DockerRuntime().program_command("img@sha256:1", "python3", ("parse", "m"))
    assert command[:3] == ("docker", "run", "--rm")
    assert command[-6:] == ("--entrypoint", "python3", local or "img@sha256:1", "-", "parse", "m")
    assert {"--network", "none", "--pull", "never"} < set(command)


@pytest.mark.parametrize(("cgroup", "expected"), CGROUPS.values(), ids=CGROUPS)
def test_a_port_is_held_by_the_container_of_the_process(cgroup: str, expected: bool) -> None:
    container = Instance(INNER, "nano", running=True, ports=(8000,))
    assert DockerRuntime().holds(container, PortOwner(7, "vllm serve", cgroup), 8000) is expected


@pytest.mark.parametrize(
    ("owner", "port", "expected"),
    [
        (PortOwner(7, "/usr/bin/docker-proxy -proto tcp", "0::/system.slice/docker.service"), 8000, True),
        (PortOwner(7, "/usr/bin/docker-proxy -proto tcp", "0::/system.slice/docker.service"), 8001, False),
        (PortOwner(7, "python3 -m http.server", "0::/system.slice/ssh.service"), 8000, False),
        (PortOwner(0, "a process that is not visible here"), 8000, True),
    ],
)
def test_a_published_port_is_held_for_its_container(owner: PortOwner, port: int, expected: bool) -> None:
    container = Instance(INNER, "nano", running=True, ports=(8000,))
    assert DockerRuntime().holds(container, owner, port) is expected


def test_the_probe_knows_every_name_that_a_rollout_needs() -> None:
    names = runtimes.get("docker").instance_names("nano")
    assert names == tuple(DockerRuntime().name("nano", role) for role in Role)
    assert all(probe.in_the_way(name, ("nano",)) for name in names)
