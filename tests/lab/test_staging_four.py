"""Four Sparks that need the same image and the same model: registry and hub send each byte once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State, read_state
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.names import lab_name
from tests.lab.serving_fleet import nano
from tests.lab.test_staging import bytes_sent_by_registry, hub

NAMES = ("spark-01", "spark-02", "spark-03", "spark-04")
BLOBS = "cd /home/nvidia/vllm/hub/models--*/blobs && sha256sum * | sort"
IMAGES = "docker images --digests --no-trunc --format '{{.Repository}} {{.Digest}} {{.ID}}' | sort"

pytestmark = pytest.mark.full


@pytest.fixture
def four() -> Iterator[tuple[Lab, State]]:
    """Return a lab of its own with four empty Sparks."""
    docker, lab = Docker(), Lab(Path(__file__).parents[2], lab_name("once"))
    lifecycle.up(docker, lab, len(NAMES), print, warm=False)
    yield lab, read_state(lab) or pytest.fail("the lab is gone")
    lifecycle.down(docker, lab, also_images=False, report=print)


def test_a_fleet_of_four_takes_each_byte_from_outside_once(four: tuple[Lab, State], tmp_path: Path) -> None:
    lab, state = four
    fleet = FleetDirectory(tmp_path / "checkout", lab)
    machines = [Machine(name, lab, state) for name in NAMES]
    for name in NAMES:
        fleet.host(name, nano())
    fleet.lock()
    lock = yaml.safe_load((fleet.root / "inventories" / "lab" / "fleet.lock").read_text())
    (compressed,) = (image["size"] for image in lock["images"].values())
    hub(state, "reset", "POST")
    before = bytes_sent_by_registry(lab)
    staged = fleet.run(deploy="stage").expect(0)

    files = hub(state, "counters")["files"]
    assert len(files) >= 8
    assert {counters["requests"] for counters in files.values()} == {1}, files
    assert compressed < bytes_sent_by_registry(lab) - before < 1.2 * compressed + 300_000
    sources = re.findall(r"\+ pull .* (to pull|from spark-\d\d)", staged.text)
    assert sources == ["to pull", "from spark-01", "from spark-01", "from spark-02"]
    assert len({machine.sh(BLOBS) for machine in machines}) == 1
    assert len({machine.sh(IMAGES) for machine in machines}) == 1
