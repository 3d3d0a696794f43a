"""The real vLLM over two lab Sparks by its own ``mp``, deployed by the commands of a user.

Each test starts from the state that the previous one left; each leaves both serving.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import lifecycle, real_vllm
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standins.hub_models import TINY
from sparkfleet_lab.state import State, read_state
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine
from tests.lab.pairs import LAB, NAMES, Pair

pytestmark = [pytest.mark.real_vllm, pytest.mark.timeout(3600)]

CHECKOUT = Path(__file__).parents[2]
LENGTH = 512
REQUEST = {
    "model": "wide",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 4,
    "temperature": 0,
}


class RealPair(Pair):
    """Two Sparks that serve the tiny model, with half of its weights on each."""

    def declare_tiny(self, **flags: object) -> None:
        """Write the cluster file."""
        path = self.fleet.root / "inventories" / "lab" / "clusters" / "pair.yaml"
        path.parent.mkdir(exist_ok=True)
        service = {
            "model": TINY,
            "image": "vllm/vllm-openai-cpu:v0.32.0",
            "name": "wide",
            "flags": {"enforce-eager": True, "max-model-len": LENGTH, "max-num-seqs": 4, **flags},
            "container": {"gpus": "none", **LAB},
            "gate": {"timeout": "20m", "expect": ""},
        }
        path.write_text(yaml.safe_dump({"hosts": list(NAMES), "executor": "mp", "serve": service}))

    def converge(self) -> Outcome:
        """Run the deploy; the image is 2 GB, and the engine takes a minute to start."""
        return self.fleet.command("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y", timeout=1800)

    def completes(self) -> bool:
        """Return whether the head generates tokens."""
        command = (
            f"curl -s --max-time 30 http://127.0.0.1:8000/v1/chat/completions --json '{json.dumps(REQUEST)}'"
        )
        response = self.head.sh(command, check=False)
        return (
            bool(response)
            and json.loads(response).get("usage", {}).get("completion_tokens") == REQUEST["max_tokens"]
        )

    def healthy(self) -> bool:
        """Return whether ``/health`` of the head responds 200."""
        return self.head.ok("curl -sf --max-time 5 http://127.0.0.1:8000/health")

    def runs(self, number: int) -> bool:
        """Return whether a member's container runs."""
        return self.machines[number].sh("docker inspect -f '{{.State.Running}}' wide") == "true"


@pytest.fixture(scope="module")
def lab_of_test() -> Lab:
    return Lab(CHECKOUT, "real-two")


@pytest.fixture(scope="module")
def state(lab_of_test: Lab, image: str) -> Iterator[State]:
    """A lab of two machines, whose registry has the real engine, too."""
    docker = Docker()
    try:
        lifecycle.up(docker, lab_of_test, 2, print, warm=False)
        found = read_state(lab_of_test)
        assert found is not None
        real_vllm.push(docker, image, found.registry_url, lab_of_test.directory / "ca.pem")
    except SparkfleetError as error:
        pytest.fail(f"no lab: {error}", pytrace=False)
    yield found
    if os.environ.get("KEEP") != "1":
        lifecycle.down(docker, lab_of_test, also_images=False, report=print)


@pytest.fixture(scope="module")
def fresh_pair(lab_of_test: Lab, state: State, tmp_path_factory: pytest.TempPathFactory) -> RealPair:
    """The two machines without a service."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("real") / "checkout", lab_of_test)
    pair = RealPair(fleet, tuple(Machine(name, lab_of_test, state) for name in NAMES))
    for name in NAMES:
        fleet.host(name, {"serve": None})
    pair.declare_tiny()
    fleet.lock()
    return pair


@pytest.fixture(scope="module")
def first(fresh_pair: RealPair) -> tuple[Outcome, Outcome]:
    """Outcomes of the first plan and the first run."""
    return fresh_pair.fleet.plan(), fresh_pair.converge()


@pytest.fixture
def pair(fresh_pair: RealPair, first: tuple[Outcome, Outcome]) -> RealPair:
    """Both Sparks, serving as declared first."""
    fresh_pair.declare_tiny()
    if set(fresh_pair.lengths()) != {str(LENGTH)} or not fresh_pair.completes():
        fresh_pair.converge().expect(0)
    return fresh_pair


def test_one_run_starts_a_cluster_and_the_next_plan_is_empty(
    pair: RealPair, first: tuple[Outcome, Outcome]
) -> None:
    plan, run = first
    assert plan.expect(2).out.count("wide (spark-01, spark-02)") == 1
    assert "+ flag        --tensor-parallel-size 2" in plan.out
    run.expect(0)
    assert pair.completes()
    # Each rank has half of the model: by the logs of both ranks.
    for number, machine in enumerate(pair.machines):
        log = machine.sh("docker logs wide 2>&1")
        assert f"rank {number} in world size 2" in log, log
        assert "tcp://192.168.176.1:29501" in log, log
    before = pair.containers()
    pair.expect_empty_plan()
    pair.converge().expect(0)
    assert pair.containers() == before


def test_a_change_is_planned_by_field_and_made_on_both(pair: RealPair) -> None:
    pair.declare_tiny(**{"max-model-len": 256})
    text = pair.fleet.plan().expect(2).out
    assert text.count("--max-model-len 512 → 256") == 1
    pair.converge().expect(0)
    assert pair.lengths() == ["256", "256"]
    assert pair.completes()
    models = json.loads(pair.head.sh("curl -sS --fail http://127.0.0.1:8000/v1/models"))
    assert models["data"][0]["max_model_len"] == 256
    pair.expect_empty_plan()


def test_an_engine_that_fails_on_the_head_rolls_both_back(pair: RealPair) -> None:
    before = pair.containers()
    pair.declare_tiny(**{"num-gpu-blocks-override": 1})  # the head fails after both have loaded the weights
    refused = pair.converge()
    assert refused.code == 1, refused.text
    assert "rolled back: the previous generation serves again and passed its gate" in refused.text
    pair.wait_until_idle()
    assert pair.lengths() == [str(LENGTH), str(LENGTH)]
    assert pair.completes()
    assert [current.split()[0] for current in pair.containers()] == [earlier.split()[0] for earlier in before]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_rank_ends_the_other_and_both_restart(pair: RealPair, lost: int) -> None:
    before = pair.containers()
    other = 1 - lost
    pair.machines[lost].sh("docker kill wide")
    # It may be down too briefly to be observed; a new start shows the same.
    pair.wait(lambda: not pair.runs(other) or pair.containers()[other] != before[other])
    assert not pair.healthy()
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.completes)
    pair.expect_empty_plan()


def test_a_member_that_is_off_is_named_and_the_other_does_not_answer(pair: RealPair) -> None:
    pair.machines[1].break_("powered-off")
    pair.wait(lambda: not pair.runs(0))
    assert not pair.healthy()
    plan = pair.fleet.plan().text
    status = pair.fleet.command("sparkfleet", "status", "inventories/lab.py")
    pair.machines[1].repair()
    assert "cluster pair: degraded: spark-02 is unknown" in plan
    assert status.code == 1, status.text
    assert "degraded" in status.text
    pair.wait(pair.completes)
    pair.expect_empty_plan()
