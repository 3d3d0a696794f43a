"""The real vLLM as a service of a lab Spark, deployed by the commands that a user types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import lifecycle, real_vllm
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standins.hub_models import TINY
from sparkfleet_lab.state import read_state
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine

pytestmark = pytest.mark.real_vllm

CHECKOUT = Path(__file__).parents[2]
FLAGS = {"enforce-eager": True, "max-model-len": 512, "max-num-seqs": 4}


@pytest.fixture(scope="module")
def lab(image: str) -> Iterator[Lab]:
    """A lab of one machine, whose registry has the real engine too."""
    docker, lab_of_test = Docker(), Lab(CHECKOUT, "real")
    try:
        lifecycle.up(docker, lab_of_test, 1, print, warm=False)
        state = read_state(lab_of_test)
        assert state is not None
        real_vllm.push(docker, image, state.registry_url, lab_of_test.directory / "ca.pem")
    except SparkfleetError as error:
        pytest.fail(f"no lab: {error}", pytrace=False)
    yield lab_of_test
    lifecycle.down(docker, lab_of_test, also_images=False, report=print)


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> FleetDirectory:
    return FleetDirectory(tmp_path / "checkout", lab)


def converge(fleet: FleetDirectory) -> Outcome:
    """Run the deploy; the image is 2 GB, and the engine takes a minute to start."""
    return fleet.command("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y", timeout=1800)


def service(**flags: object) -> dict[str, object]:
    return {
        "serve": [
            {
                "model": TINY,
                "image": "vllm/vllm-openai-cpu:v0.32.0",
                "name": "tiny",
                "flags": {**FLAGS, **flags},
                "container": {"gpus": "none"},
                "gate": {"timeout": "20m", "expect": ""},
            }
        ]
    }


def test_the_real_engine_converges_serves_and_leaves_nothing_to_do(lab: Lab, fleet: FleetDirectory) -> None:
    state = read_state(lab)
    assert state is not None
    spark = Machine("spark-01", lab, state)
    fleet.host("spark-01", service())
    fleet.lock()
    assert fleet.plan().code == 2
    converge(fleet).expect(0)
    models = json.loads(spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models"))
    assert [model["id"] for model in models["data"]] == ["tiny"]
    second = fleet.plan().expect(0)
    assert "no changes" in second.out

    fleet.host("spark-01", service(**{"max-model-len": 256}))
    converge(fleet).expect(0)
    models = json.loads(spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models"))
    assert models["data"][0]["max_model_len"] == 256

    fleet.host("spark-01", service(**{"tool-call-parser": "nano_v9", "enable-auto-tool-choice": True}))
    refused = converge(fleet)
    assert refused.code != 0
    models = json.loads(spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models"))
    assert models["data"][0]["max_model_len"] == 256
