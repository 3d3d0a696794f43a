"""Four Sparks as one cluster, or as two, beside a fifth Spark with a service of its own.

Each test starts from the state that the previous one left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import read_state
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.names import lab_name
from tests.lab.pairs import Pair
from tests.lab.ray_images import IMAGE, push_image_with_ray
from tests.lab.serving_fleet import nano

pytestmark = pytest.mark.full
NAMES = tuple(f"spark-0{number}" for number in range(1, 6))
SQUARE: dict[str, Any] = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FleetDirectory, tuple[Machine, ...]]]:
    """A lab of its own with five Sparks; the last one has a service ``nano`` of its own."""
    docker, lab = Docker(), Lab(Path(__file__).parents[2], lab_name("five"))
    lifecycle.up(docker, lab, len(NAMES), print, warm=True)
    state = read_state(lab) or pytest.fail("the lab is gone")
    fleet = FleetDirectory(tmp_path_factory.mktemp("five") / "checkout", lab)
    for one in NAMES[:-1]:
        fleet.host(one, {"serve": None})
    fleet.host(NAMES[-1], nano())
    push_image_with_ray(lab, state)
    yield fleet, tuple(Machine(one, lab, state) for one in NAMES)
    lifecycle.down(docker, lab, also_images=False, report=print)


def single_container(machines: tuple[Machine, ...]) -> str:
    """Return id and start of the container on the fifth Spark."""
    return machines[-1].sh("docker inspect -f '{{.Id}} {{.State.StartedAt}}' nano")


def test_four_sparks_serve_one_model_with_tensor_and_pipeline_parallelism(
    five: tuple[FleetDirectory, tuple[Machine, ...]],
) -> None:
    fleet, machines = five
    four = Pair(fleet, machines[:4], "four")
    four.declare(**SQUARE)
    fleet.lock()
    fleet.run().expect(0)
    assert four.serves()
    assert "All 4 ranks have joined" in four.head.sh("docker logs wide 2>&1")
    four.expect_empty_plan()
    single, before = single_container(machines), four.containers()
    machines[2].sh("docker kill wide")
    four.wait(lambda: all(new != old for new, old in zip(four.containers(), before, strict=True)))
    four.wait(four.serves)
    assert single_container(machines) == single
    four.expect_empty_plan()


def test_a_failure_on_the_last_of_four_rolls_all_back(
    five: tuple[FleetDirectory, tuple[Machine, ...]],
) -> None:
    fleet, machines = five
    four = Pair(fleet, machines[:4], "four")
    four.declare(**SQUARE, max_model_len=4096)
    code, text = four.run_with_fault(machines[3], "crash-after-load")
    assert code == 1
    assert "spark-04 (192.168.176.4): the engine ended with exit code 1" in text
    four.wait_until_idle()
    assert four.lengths() == ["262144"] * 4


def test_four_sparks_serve_one_model_by_ray_with_one_rank_each(
    five: tuple[FleetDirectory, tuple[Machine, ...]],
) -> None:
    fleet, machines = five
    four = Pair(fleet, machines[:4], "four")
    single = single_container(machines)
    four.declare("ray", image=IMAGE, tensor_parallel_size=4)
    fleet.lock()
    fleet.run().expect(0)
    assert four.serves()
    log = four.head.sh("docker logs wide 2>&1")
    places = {line.rsplit(" on ", 1)[1] for line in log.splitlines() if "] rank " in line}
    assert places == {f"192.168.176.{number} (SPREAD)" for number in range(1, 5)}
    assert single_container(machines) == single
    four.expect_empty_plan()


def test_two_clusters_change_independently_and_a_failure_of_one_does_not_affect_the_other(
    five: tuple[FleetDirectory, tuple[Machine, ...]],
) -> None:
    fleet, machines = five
    Pair(fleet, machines[:4], "four").file.unlink(missing_ok=True)
    first, second = Pair(fleet, machines[:2], "one"), Pair(fleet, machines[2:4], "two", "192.168.192.0/20")
    single = single_container(machines)
    for pair in (first, second):
        pair.declare()
    fleet.lock()
    fleet.run().expect(0)
    assert first.serves()
    assert second.serves()
    first.expect_empty_plan()
    first.declare(max_model_len=4096)
    second.declare(max_model_len=4096)
    code, text = first.run_with_fault(machines[1], "crash-after-load")
    assert code == 1
    assert "spark-02 (192.168.176.2): the engine ended with exit code 1" in text
    first.wait_until_idle()
    assert first.lengths() == ["262144"] * 2
    assert second.lengths() == ["4096"] * 2
    assert second.serves()
    assert single_container(machines) == single
