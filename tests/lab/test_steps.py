"""Deploys that do a part of the job: they change what they show and do not touch running engines."""

from __future__ import annotations

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.test_main_job import NANO


def test_prepare_stage_and_serve_each_do_their_part_only(fleet: FleetDirectory, spark: Machine) -> None:
    fleet.host("spark-01", NANO)
    fleet.lock()
    outcome = fleet.run(deploy="prepare").expect(0)
    assert "+ directory" in outcome.text
    assert "weights" not in outcome.text
    assert spark.ok("test -x /usr/local/bin/spark-valve")
    assert spark.sh("docker ps -aq") == ""
    assert not spark.ok("test -d /home/nvidia/vllm/hub")
    assert fleet.run(deploy="prepare").expect(0).text.count("no changes") == 1
    staged = fleet.run(deploy="stage").expect(0)
    assert "weights" in staged.text
    assert "+ flag" not in staged.text
    assert spark.sh("docker ps -aq") == ""
    assert spark.ok("test -d /home/nvidia/vllm/hub/models--*/snapshots")
    assert spark.ok("grep -q 'page cache' /var/lib/sparkfleet/jobs/*/events.jsonl")  # given back after it
    assert {field for _, field, _, _ in fleet.changes("spark-01")}.isdisjoint(
        {"weights", "pull", "directory"}
    )
    fleet.run().expect(0)
    assert fleet.plan().expect(0).out == "spark-01   no changes\n0 to change, 1 unchanged\n"
