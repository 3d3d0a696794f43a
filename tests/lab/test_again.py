"""Nothing is left to do after a run, and a run that has nothing to do touches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.served import Served, fresh

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
def served(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Two Sparks after their first run: two services on one, another model on the other."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("again") / "checkout", lab)
    machines = fresh(lab, lab_state, *HOSTS)
    for name, content in HOSTS.items():
        fleet.host(name, content)
    fleet.lock()
    fleet.run().expect(0)
    return Served(fleet, machines)


def test_every_declared_model_serves_after_a_run(served: Served) -> None:
    for machine in served.machines:
        for port, name in NAMES[machine.name].items():
            models = machine.sh(f"curl -sS --fail http://127.0.0.1:{port}/v1/models")
            assert f'"id":"{name}"' in models.replace('": "', '":"')


def test_after_a_run_the_plan_is_empty_and_says_so_for_each_host(served: Served) -> None:
    said = served.fleet.plan().expect(0)
    assert said.out == "spark-01   no changes\nspark-02   no changes\n0 to change, 2 unchanged\n"
    data = served.fleet.plan_data()
    assert data["exit_code"] == 0
    assert [(host["host"], host["state"], host["change_sets"]) for host in data["hosts"]] == [
        ("spark-01", "unchanged", []),
        ("spark-02", "unchanged", []),
    ]
    assert "spark-01   no changes\nspark-02   no changes\n" in served.fleet.dry().expect(0).out


def test_a_second_run_changes_no_container_no_file_and_no_unit(served: Served) -> None:
    before = everything(served.machines)
    said = served.fleet.run().expect(0)
    assert "0 to change, 2 unchanged" in said.out
    assert everything(served.machines) == before


def test_a_run_from_another_checkout_finds_nothing_to_do_either(
    served: Served, lab: Lab, tmp_path: Path
) -> None:
    another = FleetDirectory(tmp_path / "elsewhere", lab)
    for name, content in HOSTS.items():
        another.host(name, content)
    another.lock()
    before = everything(served.machines)
    assert "0 to change, 2 unchanged" in another.run().expect(0).out
    assert everything(served.machines) == before


def everything(machines: tuple[Machine, ...]) -> dict[str, object]:
    """Return every file (content, mode, owner, mtime), every container, image and unit of the machines.

    Containers are as docker has them, StartedAt included.
    """
    return {machine.name: machine.everything() for machine in machines}
