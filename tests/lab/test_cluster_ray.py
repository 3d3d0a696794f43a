"""Two Sparks serve one model by the real Ray, over the lab's fabric.

Each test starts from the state that the previous one left; each leaves both serving.
"""

from __future__ import annotations

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.pairs import Pair, empty_pair
from tests.lab.ray_images import IMAGE, push_image_with_ray

pytestmark = pytest.mark.full
ADDRESSES = "192.168.176.1 192.168.176.2"
NODES = """python3 -c "
import ray
ray.init(address='auto', log_to_driver=False, logging_level='ERROR')
print(*sorted(node['NodeManagerAddress'] for node in ray.nodes() if node['Alive']))
" """


@pytest.fixture(scope="module")
def registry_with_ray(lab: Lab, lab_state: State) -> None:
    """Push the image with Ray into the lab's registry, under its own name."""
    push_image_with_ray(lab, lab_state)


@pytest.fixture(scope="module")
def pair(
    registry_with_ray: None, lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """Two machines that one run took from a fresh state to one served model."""
    made = empty_pair(lab, lab_state, tmp_path_factory.mktemp("ray"))
    made.declare("ray", image=IMAGE)
    made.fleet.lock()
    made.fleet.run().expect(0)
    return made


def in_head(pair: Pair, command: str) -> str:
    """Return the output of a command inside of the head's container."""
    return pair.head.sh(f"docker exec wide {command}")


def test_one_run_starts_a_ray_cluster_on_the_fabric_and_the_next_plan_is_empty(pair: Pair) -> None:
    assert pair.serves()
    assert in_head(pair, NODES).splitlines()[-1] == ADDRESSES
    assert "2.0/2.0 GPU" in in_head(pair, "ray status")
    log = pair.head.sh("docker logs wide 2>&1")
    places = {line.rsplit(" on ", 1)[1] for line in log.splitlines() if "] rank " in line}
    assert places == {f"{address} (SPREAD)" for address in ADDRESSES.split()}
    before = pair.containers()
    pair.expect_empty_plan()
    pair.fleet.run().expect(0)
    assert pair.containers() == before


@pytest.mark.parametrize("lost", [0, 1])
def test_all_ranks_restart_in_order_after_one_is_killed(pair: Pair, lost: int) -> None:
    before = pair.containers()
    pair.machines[lost].sh("docker kill wide")
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.serves)
    head, worker = (line.split()[1] for line in pair.containers())
    assert head < worker  # a worker never starts before the head's Ray answers
    pair.expect_empty_plan()


def test_the_service_restarts_after_a_member_reboots(pair: Pair) -> None:
    before = pair.containers()
    pair.machines[1].reboot()
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.serves)
    pair.expect_empty_plan()


def test_a_change_that_fails_on_one_rank_rolls_both_back(pair: Pair) -> None:
    pair.declare("ray", image=IMAGE, max_model_len=4096)
    code, _ = pair.run_with_fault(pair.head, "crash-after-load")
    assert code == 1
    pair.wait_until_idle()
    assert pair.lengths() == ["262144", "262144"]
