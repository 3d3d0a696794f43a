"""A run leaves an empty plan, and a run with an empty plan changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.serving_fleet import ServingFleet, reset_machines

HOSTS: dict[str, Any] = {
    "spark-01": {
        "serve": [
            {
                "recipe": "nemotron-3-nano-30b-a3b-nvfp4",
                "name": "nano",
                "flags": {"gpu-memory-utilization": 0.4, "max-model-len": 131072},
                "env": {"VLLM_LOGGING_LEVEL": "INFO"},
                "container": {"network": "bridge", "ulimits": {"nofile": 4096}, "devices": ["/dev/full"]},
            },
            {"recipe": "gpt-oss-20b", "name": "small", "flags": {"gpu-memory-utilization": 0.4}},
        ]
    },
    "spark-02": {"serve": "qwen3.6-35b-a3b-nvfp4"},
}
NAMES = {"spark-01": {8000: "nano", 8001: "small"}, "spark-02": {8000: "qwen3.6-35b-a3b-nvfp4"}}


@pytest.fixture(scope="module")
def serving(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> ServingFleet:
    """Two Sparks after their first run: two services on one, another model on the other."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("again") / "checkout", lab)
    machines = reset_machines(lab, lab_state, *HOSTS)
    for name, content in HOSTS.items():
        fleet.host(name, content)
    fleet.lock()
    fleet.run().expect(0)
    return ServingFleet(fleet, machines)


def test_every_declared_model_serves_after_a_run(serving: ServingFleet) -> None:
    for machine in serving.machines:
        for port, name in NAMES[machine.name].items():
            models = machine.sh(f"curl -sS --fail http://127.0.0.1:{port}/v1/models")
            assert f'"id":"{name}"' in models.replace('": "', '":"')


def test_after_a_run_the_plan_lists_each_host_without_changes(serving: ServingFleet) -> None:
    outcome = serving.fleet.plan().expect(0)
    assert outcome.out == "spark-01   no changes\nspark-02   no changes\n0 to change, 2 unchanged\n"
    data = serving.fleet.plan_data()
    assert data["exit_code"] == 0
    assert [(host["host"], host["state"], host["change_sets"]) for host in data["hosts"]] == [
        ("spark-01", "unchanged", []),
        ("spark-02", "unchanged", []),
    ]
    assert "spark-01   no changes\nspark-02   no changes\n" in serving.fleet.dry().expect(0).out


def test_a_second_run_changes_no_container_no_file_and_no_unit(serving: ServingFleet) -> None:
    before = snapshots(serving.machines)
    outcome = serving.fleet.run().expect(0)
    assert "0 to change, 2 unchanged" in outcome.out
    assert snapshots(serving.machines) == before


def test_a_run_from_another_checkout_has_nothing_to_do(
    serving: ServingFleet, lab: Lab, tmp_path: Path
) -> None:
    another = FleetDirectory(tmp_path / "other", lab)
    for name, content in HOSTS.items():
        another.host(name, content)
    another.lock()
    before = snapshots(serving.machines)
    assert "0 to change, 2 unchanged" in another.run().expect(0).out
    assert snapshots(serving.machines) == before


def snapshots(machines: tuple[Machine, ...]) -> dict[str, object]:
    """Return every file (content, mode, owner, mtime), every container, image and unit of the machines.

    Containers are in full, StartedAt included.
    """
    return {machine.name: machine.snapshot() for machine in machines}
