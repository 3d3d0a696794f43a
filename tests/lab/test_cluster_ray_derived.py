"""Two Sparks serve one model by Ray: a derived image adds Ray to an image without it, built once."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest

from sparkfleet_lab import ray_image, real_vllm
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab import package_index
from tests.lab.machine import Machine
from tests.lab.package_index import Index
from tests.lab.pairs import NAMES, Pair, empty_pair
from tests.wheels import real_pip

pytestmark = pytest.mark.full
PLAIN = "nvcr.io/nvidia/vllm:26.04-py3"
NODES = "'import ray; ray.init(address=\"auto\", log_to_driver=False); print(len(ray.nodes()))'"


@pytest.fixture(scope="module")
def python(lab: Lab, lab_state: State) -> str:
    """The version of Python in the engine images."""
    machine = Machine(NAMES[0], lab, lab_state)
    program = "import sys; print(*sys.version_info[:2], sep=chr(46))"
    return machine.sh(f'docker run --rm --entrypoint python3 {machine.image(PLAIN)} -c "{program}"')


@pytest.fixture(scope="module")
def index(lab_state: State, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index on the lab's network with the real Ray and its dependencies."""
    folder = tmp_path_factory.mktemp("ray-index")
    with package_index.serve(lab_state.lan.address(1), folder) as made:
        requirements = (ray_image.RAY, *ray_image.REQUIREMENTS)
        real_vllm.pip("download", "--dest", str(folder), *requirements, python=python)
        made.add(*real_pip())
        yield made


@pytest.fixture(scope="module")
def pair(
    index: Index, python: str, lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """Two machines that one run took from a fresh state to one served model."""
    made = empty_pair(lab, lab_state, tmp_path_factory.mktemp("ray-added"))
    made.fleet.set_group_data(
        python_packages={"index": index.url, "python": python, "machine": platform.machine()}
    )
    made.declare("ray")
    made.fleet.lock()
    made.fleet.run().expect(0)
    return made


def test_ranks_with_the_derived_ray_form_a_cluster_and_the_next_plan_is_empty(pair: Pair) -> None:
    assert pair.serves()
    assert pair.head.sh(f"docker exec wide python3 -c {NODES} 2>/dev/null").splitlines()[-1] == "2"
    pair.expect_empty_plan()


def test_both_ranks_run_the_same_image_and_ray_is_fetched_once(pair: Pair, index: Index) -> None:
    images = {
        machine.sh("docker inspect -f '{{.Image}} {{.Config.Image}}' wide") for machine in pair.machines
    }
    (image,) = images
    assert " localhost/sparkfleet/derived:" in image
    fetched = [name for _, name in index.sent if name.startswith("ray-")]
    by_sparks = [
        to for to, name in index.sent if name in fetched and to in {m.address for m in pair.machines}
    ]
    assert len(by_sparks) == 1


def test_a_change_with_another_build_of_the_image_on_one_member_is_refused(pair: Pair) -> None:
    other = pair.machines[1]
    name = other.sh("docker inspect -f '{{.Config.Image}}' wide")
    own = other.sh("docker inspect -f '{{.Image}}' wide")
    other.sh(f"docker commit $(docker create {name}) {name}")
    pair.declare("ray", max_model_len=4096)
    refused = pair.fleet.run()
    assert refused.code != 0
    assert f"spark-02 has another build of {name} than spark-01" in refused.text
    assert pair.serves()
    other.sh(f"docker rm $(docker ps -aq --filter status=created); docker tag {own} {name}")
    pair.fleet.run().expect(0)
    assert set(pair.lengths()) == {"4096"}
    pair.expect_empty_plan()
