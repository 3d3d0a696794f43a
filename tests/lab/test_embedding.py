"""A model that embeds: the readiness gate proves it by its vectors, and rolls back one that returns none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.serving_fleet import ServingFleet, converge_fleet, nano


@pytest.fixture(scope="module")
def serving(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> ServingFleet:
    return converge_fleet(lab, lab_state, tmp_path_factory.mktemp("embedding"), "spark-01")


def embedding(mode: str = "") -> dict[str, Any]:
    """Return a host file whose service embeds."""
    file = nano(env={"LAB_ENGINE": mode} if mode else None, runner="pooling", reasoning_parser=None)
    file["serve"][0]["gate"] = {"task": "embedding", "timeout": "60s"}
    return file


def test_an_embedding_model_replaces_one_that_chats_and_a_broken_one_is_rolled_back(
    serving: ServingFleet,
) -> None:
    fleet, (spark,) = serving.fleet, serving.machines
    fleet.host("spark-01", embedding())
    fleet.run().expect(0)
    body = json.dumps({"model": "nano", "input": "a"})
    url = "http://127.0.0.1:8000/v1/embeddings"
    data = json.loads(spark.sh(f"curl -sS --fail -H 'Content-Type: application/json' -d '{body}' {url}"))
    vector = data["data"][0]["embedding"]
    record = json.loads(spark.sh("cat /var/lib/sparkfleet/services/nano/current.json"))
    assert record["gate"]["task"] == "embedding"
    assert record["gate_result"]["answer"] == f"{len(vector)} dimensions"
    assert record["gate_result"]["tokens"] > 0
    assert fleet.plan().expect(0)
    fleet.host("spark-01", embedding("wrong-answer"))
    failed = fleet.run().expect(1)
    assert f"{len(vector)} of its {len(vector)} numbers are not finite" in failed.text
    assert json.loads(spark.sh("cat /var/lib/sparkfleet/services/nano/current.json"))["id"] == record["id"]
