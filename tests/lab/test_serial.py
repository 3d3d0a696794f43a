"""``sparkfleet apply --serial``: one Spark after the other, and none after a failure."""

from __future__ import annotations

from pathlib import Path

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.machine import Machine
from tests.lab.serving_fleet import converge_fleet, nano


def started(machine: Machine) -> str:
    return machine.sh("docker inspect -f '{{.State.StartedAt}}' nano")


def test_a_failure_on_one_spark_leaves_the_next_one_alone_and_a_success_goes_on(
    lab: Lab, lab_state: State, tmp_path: Path
) -> None:
    serving = converge_fleet(lab, lab_state, tmp_path, "spark-01", "spark-02")
    first, second = serving.machines
    before = started(second)
    changed = nano(max_num_seqs=3)
    serving.fleet.host("spark-02", changed)
    wrong = nano(max_num_seqs=3)
    wrong["serve"][0]["gate"] = {"prompt": "What is 12*17?", "expect": "no such answer"}
    serving.fleet.host("spark-01", wrong)
    apply = ("sparkfleet", "apply", "-y", "--serial", "inventories/lab.py")
    failed = serving.fleet.command(*apply).expect(1)
    assert "spark-01 failed before; nothing was changed here" in failed.text
    assert started(second) == before
    assert '"nano"' in first.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")

    serving.fleet.host("spark-01", changed)
    serving.fleet.command(*apply).expect(0)
    assert started(first) < started(second)
    serving.fleet.plan().expect(0)
