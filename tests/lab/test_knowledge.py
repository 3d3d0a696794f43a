"""An update of knowledge on the operator's machine: the plan names it, and its patterns reach the Spark."""

from __future__ import annotations

from pathlib import Path

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.unit.knowledge import updates
from tests.unit.knowledge.updates import PATTERNS, VERSION

LINE = f"knowledge {VERSION}, not the bundled one (sparkfleet knowledge show)\n"
CONVERGED = "0 to change, 1 unchanged\n"
PROGRAMS = "/usr/local/lib/sparkfleet/sparkfleet.pyz"


def test_patterns_of_an_update_reach_the_spark_while_the_engine_serves(
    fleet: FleetDirectory, spark: Machine, tmp_path: Path
) -> None:
    fleet.host(spark.name, {"serve": {"recipe": "gpt-oss-20b", "name": "small"}})
    fleet.lock()
    fleet.run().expect(0)
    started = spark.sh("docker inspect -f '{{.State.StartedAt}}' small")

    update = updates.good(tmp_path, {PATTERNS: updates.patterns()})
    fleet.command("sparkfleet", *update.args).expect(0)
    assert fleet.plan().expect(2).out.endswith(f"{LINE}1 to change, 0 unchanged\n")
    assert [name for name, _, _, _ in fleet.changes(spark.name)].count("programs") == 1
    assert fleet.plan_data()["knowledge"] == VERSION
    assert LINE in fleet.run().expect(0).out
    assert fleet.plan().expect(0).out.endswith(f"{LINE}{CONVERGED}")
    assert spark.ok(f"grep -q brand-new-failure {PROGRAMS}")

    fleet.command("sparkfleet", "knowledge", "reset").expect(0)
    assert LINE not in fleet.plan().expect(2).out
    fleet.run().expect(0)
    assert fleet.plan().expect(0).out.endswith(f"spark-01   no changes\n{CONVERGED}")
    assert not spark.ok(f"grep -q brand-new-failure {PROGRAMS}")
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' small") == started
