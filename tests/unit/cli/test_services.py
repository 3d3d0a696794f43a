"""``sparkfleet stop``, ``start`` and ``restart``: which hosts they connect to, and when they ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sparkfleet import fleet as fleet_package
from sparkfleet.cli import apply, arguments, services
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.plan.model import ChangeSet, Command, HostPlan, Plan
from sparkfleet.plan.operations import StopService
from sparkfleet.plan.service_commands import Request, Target
from tests.unit.config.fleet_files import FleetFiles

INVENTORY = "from sparkfleet.inventory import load\n\nsparks = load(__file__)\n"
PAIR = "hosts: [spark-01, spark-02]\nexecutor: mp\nserve: {recipe: gpt-oss-20b, name: wide}\n"


@pytest.fixture
def inventory(fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fleet's inventory; no command connects."""
    silent = SimpleNamespace(before_connections=lambda: None)
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches", silent, raising=False)
    files = fleet(
        {
            "spark-01.yaml": "serve: []\n",
            "spark-02.yaml": "serve: []\n",
            "spark-03.yaml": "serve: gpt-oss-20b\n",
            "clusters/pair.yaml": PAIR,
            "inventories/lab.py": INVENTORY,
        }
    )
    files.pin()
    return files.inventory


@pytest.mark.parametrize(
    ("target", "hosts"),
    [
        ("spark-03", ("spark-03",)),
        ("spark-02", ("spark-01", "spark-02")),
        ("spark-02/wide", ("spark-01", "spark-02")),
        ("spark-02/own", ("spark-02",)),
    ],
)
def test_a_service_of_a_cluster_needs_all_members(
    inventory: Path, target: str, hosts: tuple[str, ...]
) -> None:
    assert services.members(inventory, arguments.Target(*target.partition("/")[::2])) == hosts


def test_without_a_terminal_a_command_requires_yes_or_dry(inventory: Path) -> None:
    for command in (services.stop, services.start, services.restart):
        result = CliRunner().invoke(command, [str(inventory), "spark-03"])
        assert isinstance(result.exception, SparkfleetError)
        (found,) = result.exception.diagnostics
        assert found.code == "confirmation-required"
        assert f"sparkfleet {command.name} --dry" in found.hint


def test_target_and_reason_are_data_of_the_run(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    change = ChangeSet("x", (StopService("x", changes=()),))

    def fleet_plan(*values: Any) -> Plan:
        runs.append(values)
        return Plan((HostPlan("spark-03", (change,)),))

    plans = SimpleNamespace(fleet_plan=fleet_plan)
    monkeypatch.setattr(fleet_package, "service_commands", plans, raising=False)
    monkeypatch.setattr(apply, "become_pyinfra", lambda *values: runs.append(values))
    result = CliRunner().invoke(services.stop, [str(inventory), "spark-03/x", "-y", "--why", "17"])
    assert result.exit_code == 0, result.output
    planned, run = runs
    assert planned[1:] == (("spark-03",), Request(Command.STOP, Target("spark-03", "x"), "17"))
    assert run[1] == ("spark-03",)
    assert run[3:] == ("stop", {"service_target": "spark-03/x", "stop_reason": "17"})
    runs.clear()
    assert CliRunner().invoke(services.start, [str(inventory), "--dry"]).exit_code == 2
    assert [one[2].command for one in runs] == [Command.START]
