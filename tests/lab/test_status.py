"""``sparkfleet status``: running, stopped and unknown services of a Spark."""

from __future__ import annotations

import json
from typing import Any

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.serving_fleet import converge_fleet

HOOK = "/usr/local/bin/nvidia-container-runtime-hook"


def status(fleet: FleetDirectory, code: int, *args: str) -> dict[str, Any]:
    outcome = fleet.command("sparkfleet", "status", "inventories/lab.py", "--json", *args).expect(code)
    (spark,) = json.loads(outcome.out)["hosts"]
    return dict(spark)


def gpu_in_container(fleet: FleetDirectory, code: int) -> tuple[str, str]:
    checks = status(fleet, code, "--preflight", "--run")["checks"]
    (row,) = (check for check in checks if check["name"] == "GPU in a container")
    return row["state"], (row["diagnostic"] or {"hint": ""})["hint"]


def test_status_reports_running_stopped_and_unknown_services(
    lab: Lab, lab_state: State, tmp_path_factory: Any
) -> None:
    serving = converge_fleet(lab, lab_state, tmp_path_factory.mktemp("status"), "spark-01")
    fleet, (spark,) = serving.fleet, serving.machines

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
    (stopped,) = status(fleet, 1)["services"]
    assert (stopped["state"], stopped["since"]) == ("exited", "")

    spark.sh(f"mv {HOOK} /root/; systemctl restart docker")
    state, remedy = gpu_in_container(fleet, 1)
    assert state == "fail"
    assert "nvidia-ctk" in remedy

    spark.break_("docker-stopped")
    unreachable = status(fleet, 1)
    assert unreachable["services"] == []
    assert "Docker down" in unreachable["unknown"]["message"]
    assert {"location", "message", "expected", "hint", "code"} <= set(unreachable["unknown"])
