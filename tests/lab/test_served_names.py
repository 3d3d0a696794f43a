"""The API answers to every declared name of a model."""

from __future__ import annotations

import json

from sparkfleet_lab.standin_images import LLAMA_CPP
from sparkfleet_lab.standins.hub_models import NANO, TINY_GGUF
from tests.lab.fleet import FleetDirectory
from tests.lab.gguf_steps import service
from tests.lab.machine import Machine

SERVED = {"served_name": ["{name}", "{model}"]}
QUESTION = {"messages": [{"role": "user", "content": "What is 12*17? Answer with the number only."}]}


def is_served(spark: Machine, port: int, name: str) -> bool:
    body = json.dumps({"model": name, "temperature": 0, "max_tokens": 64, **QUESTION})
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return spark.ok(f"curl -sS --fail {url} -H 'Content-Type: application/json' -d '{body}'")


def test_a_model_answers_to_its_repository_where_that_is_declared_and_no_engine_restarts_before(
    fleet: FleetDirectory, spark: Machine
) -> None:
    flags = {"gpu-memory-utilization": 0.4, "max-model-len": 65536}
    nano = {"recipe": "nemotron-3-nano-30b-a3b-nvfp4", "name": "nano", "flags": flags}
    (gguf,) = service(LLAMA_CPP, ctx_size=1024)["serve"]
    fleet.host("spark-01", {"serve": [nano, {**gguf, "port": 8001}]})
    fleet.lock()
    fleet.run().expect(0)
    assert is_served(spark, 8000, "nano")
    assert not is_served(spark, 8000, NANO)

    fleet.set_group_data(**SERVED)
    assert ("served name", "", "nano", f"nano {NANO}") in fleet.changes("spark-01")
    fleet.run().expect(0)
    assert is_served(spark, 8000, "nano")
    assert is_served(spark, 8000, NANO)
    listed = spark.sh("curl -sS --fail http://127.0.0.1:8001/v1/models")
    assert {"tiny", TINY_GGUF} <= set(json.loads(listed)["data"][0]["aliases"])
    fleet.plan().expect(0)
