from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import Machine, Network, State


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose checkout is the test's directory."""
    return Lab(tmp_path, "default")


@pytest.fixture
def state() -> State:
    """A lab of two machines, as it would be written down."""
    return State(
        lan=Network("x-lan", "10.130.1.0/24"),
        fabric=Network("x-link1", "10.130.2.0/24"),
        twin=Network("x-link2", "10.130.3.0/24"),
        spark_image="sparkfleet-lab/spark:1",
        privileges=("--privileged",),
        registry_port=5443,
        registry_image="sparkfleet-lab/registry-filled:1",
        hub_image="sparkfleet-lab/hub:1",
        images=(("nvcr.io/nvidia/vllm:26.04-py3", "sha256:aa"),),
        machines=(
            Machine("spark-01", 1, 40001, "ssh-ed25519 AAAA1", "private one"),
            Machine("spark-02", 2, 40002, "ssh-ed25519 AAAA2", "private two"),
        ),
    )
