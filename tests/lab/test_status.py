"""``sparkfleet status``: what serves, what does not, what cannot be told; asked of a Spark that serves."""

from __future__ import annotations

import json
from typing import Any

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.served import converged

HOOK = "/usr/local/bin/nvidia-container-runtime-hook"


def status(fleet: FleetDirectory, code: int, *words: str) -> dict[str, Any]:
    said = fleet.command("sparkfleet", "status", "inventories/lab.py", "--json", *words).expect(code)
    (spark,) = json.loads(said.out)["hosts"]
    return dict(spark)


def gpu_in_container(fleet: FleetDirectory, code: int) -> tuple[str, str]:
    checks = status(fleet, code, "--preflight", "--run")["checks"]
    (row,) = (check for check in checks if check["name"] == "GPU in a container")
    return row["state"], (row["diagnostic"] or {"hint": ""})["hint"]


def test_status_tells_what_serves_what_stands_still_and_what_cannot_be_told(
    lab: Lab, lab_state: State, tmp_path_factory: Any
) -> None:
    served = converged(lab, lab_state, tmp_path_factory.mktemp("status"), "spark-01")
    fleet, (spark,) = served.fleet, served.machines

    (nano,) = status(fleet, 0)["services"]
    assert (nano["name"], nano["port"], nano["state"], nano["unit"]) == (
        "nano",
        8000,
        "running",
        "active running",
    )
    started = spark.sh("docker inspect -f '{{.State.StartedAt}}' nano")
    assert nano["since"] == started
    label = '{{index .Config.Labels "io.sparkfleet.generation"}}'
    assert nano["generation"] == spark.sh(f"docker inspect -f '{label}' nano")
    assert nano["gate"]["ready_s"] >= 0

    before = spark.sh("docker ps -aq --no-trunc")
    assert gpu_in_container(fleet, 0) == ("ok", "")
    assert spark.sh("docker ps -aq --no-trunc") == before
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' nano") == started

    spark.sh("systemctl stop sparkfleet-nano")
    (still,) = status(fleet, 1)["services"]
    assert (still["state"], still["since"]) == ("exited", "")

    spark.sh(f"mv {HOOK} /root/; systemctl restart docker")
    state, remedy = gpu_in_container(fleet, 1)
    assert state == "fail"
    assert "nvidia-ctk" in remedy

    spark.break_("docker-stopped")
    dark = status(fleet, 1)
    assert dark["services"] == []
    assert "Docker down" in dark["unknown"]["message"]
    assert {"location", "message", "expected", "hint", "code"} <= set(dark["unknown"])
