"""The owner of a port is found by the cgroup of its process, wherever dockerd puts containers."""

from __future__ import annotations

import pytest

from sparkfleet.onhost.machine.host import container_of

OUTER, INNER = "a" * 64, "b" * 64

CGROUPS = {
    "cgroupfs": (f"0::/docker/{INNER}", INNER),
    "systemd": (f"0::/system.slice/docker-{INNER}.scope\n", INNER),
    "a parent of the daemon's own": (f"4:memory:/containers/{INNER}\n0::/containers/{INNER}", INNER),
    "a Spark that is a container itself": (f"0::/docker/{OUTER}/containers/{INNER}", INNER),
    "a process of no container": ("0::/system.slice/ssh.service", ""),
}


@pytest.mark.parametrize("text, container", CGROUPS.values(), ids=CGROUPS)
def test_the_innermost_container_is_found(text: str, container: str) -> None:
    assert container_of(text) == container
