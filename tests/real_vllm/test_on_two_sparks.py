"""The real vLLM over two lab Sparks by its own way (``mp``), brought there by the commands of a user.

Each test starts from the state that the previous one left; each leaves both serving.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sparkfleet.errors import SparkfleetError
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
ASKED = {
    "model": "wide",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 4,
    "temperature": 0,
}


class RealPair(Pair):
    """Two Sparks that serve the tiny model together, half of its weights on each."""

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
        """Tell whether the head generates tokens."""
        asked = (
            f"curl -s --max-time 30 http://127.0.0.1:8000/v1/chat/completions --json '{json.dumps(ASKED)}'"
        )
        said = self.head.sh(asked, check=False)
        return (
            bool(said) and json.loads(said).get("usage", {}).get("completion_tokens") == ASKED["max_tokens"]
        )

    def healthy(self) -> bool:
        """Tell whether ``/health`` of the head says 200."""
        return self.head.ok("curl -sf --max-time 5 http://127.0.0.1:8000/health")

    def runs(self, number: int) -> bool:
        """Tell whether a member's container runs."""
        return self.machines[number].sh("docker inspect -f '{{.State.Running}}' wide") == "true"


@pytest.fixture(scope="module")
def here() -> Lab:
    return Lab(CHECKOUT, "real-two")


@pytest.fixture(scope="module")
def state(here: Lab, image: str) -> Iterator[State]:
    """A lab of two machines, whose registry has the real engine, too."""
    docker = Docker()
    try:
        lifecycle.up(docker, here, 2, print, warm=False)
        found = read_state(here)
        assert found is not None
        real_vllm.push(docker, image, found.registry_url, here.directory / "ca.pem")
    except SparkfleetError as error:
        pytest.fail(f"no lab: {error}", pytrace=False)
    yield found
    if os.environ.get("KEEP") != "1":
        lifecycle.down(docker, here, also_images=False, say=print)


@pytest.fixture(scope="module")
def fresh(here: Lab, state: State, tmp_path_factory: pytest.TempPathFactory) -> RealPair:
    """The two machines, with nothing on them yet."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("real") / "checkout", here)
    made = RealPair(fleet, tuple(Machine(name, here, state) for name in NAMES))
    for name in NAMES:
        fleet.host(name, {"serve": None})
    made.declare_tiny()
    fleet.lock()
    return made


@pytest.fixture(scope="module")
def first(fresh: RealPair) -> tuple[Outcome, Outcome]:
    """What the first plan and the first run said."""
    return fresh.fleet.plan(), fresh.converge()


@pytest.fixture
def pair(fresh: RealPair, first: tuple[Outcome, Outcome]) -> RealPair:
    """The two, serving as declared first."""
    fresh.declare_tiny()
    if set(fresh.lengths()) != {str(LENGTH)} or not fresh.completes():
        fresh.converge().expect(0)
    return fresh


def test_one_run_makes_two_sparks_serve_together_and_leaves_nothing_to_do(
    pair: RealPair, first: tuple[Outcome, Outcome]
) -> None:
    plan, run = first
    assert plan.expect(2).out.count("wide (spark-01, spark-02)") == 1
    assert "+ flag        --tensor-parallel-size 2" in plan.out
    run.expect(0)
    assert pair.completes()
    # Each rank has half of the model: by the engine's own account, of both ranks.
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


def test_an_engine_that_fails_on_the_head_brings_both_back(pair: RealPair) -> None:
    before = pair.containers()
    pair.declare_tiny(**{"num-gpu-blocks-override": 1})  # the head finds out, when both have the weights
    refused = pair.converge()
    assert refused.code == 1, refused.text
    assert "rolled back: the previous generation serves again and passed its gate" in refused.text
    pair.wait_until_idle()
    assert pair.lengths() == [str(LENGTH), str(LENGTH)]
    assert pair.completes()
    assert [now.split()[0] for now in pair.containers()] == [was.split()[0] for was in before]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_rank_ends_the_other_and_both_come_back_together(pair: RealPair, lost: int) -> None:
    before = pair.containers()
    other = 1 - lost
    pair.machines[lost].sh("docker kill wide")
    # It may be down for less than one look: that it was started anew says the same.
    pair.wait(lambda: not pair.runs(other) or pair.containers()[other] != before[other])
    assert not pair.healthy()
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.completes)
    pair.expect_empty_plan()


def test_a_member_that_is_off_is_named_and_what_is_left_does_not_answer(pair: RealPair) -> None:
    pair.machines[1].break_("powered-off")
    pair.wait(lambda: not pair.runs(0))
    assert not pair.healthy()
    plan = pair.fleet.plan().text
    told = pair.fleet.command("sparkfleet", "status", "inventories/lab.py")
    pair.machines[1].mend()
    assert "cluster pair: degraded: spark-02 is unknown" in plan
    assert told.code == 1, told.text
    assert "degraded" in told.text
    pair.wait(pair.completes)
    pair.expect_empty_plan()
