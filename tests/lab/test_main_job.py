"""The main job on fresh machines, as a user types it: plan, converge, nothing left to do."""

from __future__ import annotations

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine

RECIPE = "nemotron-3-nano-30b-a3b-nvfp4"
NANO = {"serve": [{"recipe": RECIPE, "name": "nano", "flags": {"max-model-len": 131072}}]}


def test_a_fresh_spark_converges_serves_and_has_nothing_left_to_do(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", NANO)
    fleet.lock()
    assert fleet.plan().code == 2
    fleet.run().expect(0)
    models = spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    assert '"id": "nano"' in models or '"id":"nano"' in models
    second = fleet.plan().expect(0)
    assert second.out == "spark-01   no changes\n0 to change, 1 unchanged\n"
    started = spark.sh("docker inspect -f '{{.State.StartedAt}}' nano")
    files = spark.files_snapshot()
    fleet.run().expect(0)
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' nano") == started
    assert spark.files_snapshot() == files
