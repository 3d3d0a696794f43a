"""A service that cannot be served keeps no other service of its Spark from its change."""

from __future__ import annotations

import re
from typing import Any

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine


def service(recipe: str, name: str, port: int, **more: Any) -> dict[str, Any]:
    flags = {"gpu-memory-utilization": 0.3, "max-model-len": 65536}
    return {"recipe": recipe, "name": name, "port": port, "flags": flags, **more}


def aa(port: int) -> dict[str, Any]:
    return service("nemotron-3-nano-30b-a3b-nvfp4", "aa", port)


def bb(port: int, *, misfit: bool = False) -> dict[str, Any]:
    more = {"container": {"devices": ["/dev/missing"]}} if misfit else {}
    return service("gpt-oss-20b", "bb", port, **more)


def names(spark: Machine) -> list[str]:
    return sorted(spark.sh("docker ps --format '{{.Names}}'").split())


def test_one_service_starts_while_another_cannot_and_the_run_still_fails(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", {"serve": [aa(8000), bb(8001, misfit=True)]})
    fleet.lock()
    assert "0 to change, 0 unchanged, 1 blocked (1 in part)" in fleet.plan().expect(1).out
    run = fleet.run().expect(1)
    assert names(spark) == ["aa"]
    assert '"aa"' in spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    assert re.search(r"spark-01 +aa +http\S+ +serves, gate passed", run.err)
    assert "/dev/missing" in run.err[run.err.index("spark-01   FAILED") :]

    fleet.host("spark-01", {"serve": [aa(8002), bb(8000, misfit=True)]})
    fleet.run().expect(1)
    assert '"aa"' in spark.sh("curl -sS --fail http://127.0.0.1:8002/v1/models")

    fleet.host("spark-01", {"serve": [aa(8002), bb(8000)]})
    fleet.run().expect(0)
    assert names(spark) == ["aa", "bb"]
    before = spark.sh("docker inspect -f '{{.State.StartedAt}}' bb")

    # cc needs the port of bb, which cannot move.
    cc = service("gpt-oss-20b", "cc", 8000)
    fleet.host("spark-01", {"serve": [aa(8004), bb(8003, misfit=True), cc]})
    run = fleet.run().expect(1)
    assert "waits for bb, which is blocked: it frees port 8000" in run.text
    assert names(spark) == ["aa", "bb"]
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' bb") == before
    assert '"aa"' in spark.sh("curl -sS --fail http://127.0.0.1:8004/v1/models")
