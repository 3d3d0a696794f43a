"""History and rollback: an operator without the old files goes back; the next plan shows the difference."""

from __future__ import annotations

import json
from typing import Any

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.serving_fleet import converge_fleet

HISTORY = "/var/lib/sparkfleet/history.jsonl"


def test_a_rollback_starts_the_recorded_generation_and_the_history_says_so(
    lab: Lab, lab_state: State, tmp_path_factory: Any
) -> None:
    serving = converge_fleet(lab, lab_state, tmp_path_factory.mktemp("rollback"), "spark-01")
    fleet, (spark,) = serving.fleet, serving.machines
    length = "docker inspect -f '{{json .Config.Cmd}}' nano"
    length += " | grep -o 'max-model-len[^0-9]*[0-9]*' | grep -o '[0-9]*$'"
    first = spark.sh(length)
    serving.set("spark-01", max_model_len=4096)
    fleet.run().expect(0)
    assert spark.sh(length) == "4096"

    dry = fleet.command("sparkfleet", "rollback", "inventories/lab.py", "spark-01/nano", "--dry").expect(2)
    assert f"--max-model-len 4096 → {first}" in dry.out
    assert spark.sh(length) == "4096"
    fleet.command("sparkfleet", "rollback", "inventories/lab.py", "spark-01/nano", "-y").expect(0)
    assert spark.sh(length) == first
    assert spark.ok("curl -sS --fail http://127.0.0.1:8000/v1/models")
    assert (
        spark.sh("systemctl is-active sparkfleet-nano; systemctl is-enabled sparkfleet-nano")
        == "active\nenabled"
    )
    assert ("flag", "--max-model-len", first, "4096") in fleet.changes("spark-01")

    entries = [json.loads(line) for line in spark.sh(f"cat {HISTORY}").splitlines()]
    assert [one["context"]["command"] for one in entries] == ["serve", "serve", "rollback"]
    assert {one["outcome"] for one in entries} == {"promoted"}
    assert "@" in entries[-1]["operator"]
    shown = fleet.command("sparkfleet", "history", "inventories/lab.py", "spark-01").expect(0)
    assert f"rollback promoted\t{entries[-1]['operator']}" in shown.out

    started = spark.sh("docker inspect -f '{{.State.StartedAt}}' nano")
    spark.sh("rm -rf /home/nvidia/vllm/hub/models--*/snapshots/*")
    gone = fleet.command("sparkfleet", "rollback", "inventories/lab.py", "spark-01/nano", "-y").expect(1)
    assert "is not on the Spark any more" in gone.text
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' nano") == started
