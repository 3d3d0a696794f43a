"""``sparkfleet status``: lines when piped, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparkfleet import fleet
from sparkfleet.cli.status import status
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult
from sparkfleet.plan.parity import Unknown, row
from sparkfleet.plan.preflight.model import Check, HostPreflight, failed, warned
from sparkfleet.plan.preflight.parity import FleetPreflight
from sparkfleet.plan.status import ServiceStatus, SparkStatus

NANO = ServiceStatus(
    "nano", "nvidia/Nano", "nano", 8000, "running", "2026-11-21T08:00:00.123Z", "a" * 16, "active running",
    GateResult(31.5, 2.0),
)  # fmt: skip
COMPARED = (
    row("kernel", {"spark-01": ("7.0",), "spark-02": ("6.17",), "spark-03": ("7.0",)}),
    row("Docker", {"spark-01": ("29.6.2",), "spark-02": ("29.6.2",)}),
    row("CUDA of the driver", {"spark-01": ("13.0",), "spark-02": Unknown("no GPU")}),
)
HALF = ServiceStatus("old", "", "", 0, "exited", "", "", "absent", None)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, without connections: what they would have found comes from the test."""
    (tmp_path / "home.py").write_text("")
    (tmp_path / "home").mkdir()
    silent = SimpleNamespace(before_connections=lambda: None)
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches", silent, raising=False)

    def run(*args: str, found: Any = ()) -> Result:
        asking = SimpleNamespace(
            fleet_status=lambda *_: list(found),
            fleet_preflight=lambda *_, **__: FleetPreflight(tuple(found), COMPARED),
        )
        monkeypatch.setattr(fleet, "queries", asking, raising=False)
        return CliRunner().invoke(status, [str(tmp_path / "home.py"), *args])

    return run


def test_a_line_a_service_when_piped(ask: Any) -> None:
    result = ask(found=[SparkStatus("spark-01", (NANO,), 60.0, 119.7), SparkStatus("spark-02", (), 1, 2)])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "Spark\tService\tState\tSince\tGeneration\tUnit\tGate\tMemory free",
        "\t".join(
            (
                *("spark-01", "nano :8000", "running", "2026-11-21T08:00:00", "a" * 12, "active running"),
                *("ready 31.5 s, first answer 2.0 s", "60.0 of 119.7 GiB"),
            )
        ),
        "spark-02\t\tidle\t\t\t\t\t1.0 of 2.0 GiB",
    ]


def test_what_does_not_serve_and_what_is_not_known_is_exit_code_1(ask: Any) -> None:
    stopped = ask(found=[SparkStatus("spark-01", (HALF,), 60.0, 119.7)])
    assert (stopped.exit_code, "no record" in stopped.output) == (1, True)
    unknown = ask(
        found=[
            SparkStatus(
                "spark-01", unknown=Diagnostic("spark-01", "Docker down", hint="start it", code="test")
            )
        ]
    )
    assert unknown.exit_code == 1
    assert "spark-01\t\tunknown\t" in unknown.stdout
    assert unknown.stderr == "spark-01: Docker down [test]\n    do: start it\n"


def test_a_running_change_is_reported(ask: Any) -> None:
    assert "rollout in progress: nano-1" in ask(found=[SparkStatus("spark-01", rollout="nano-1")]).output


def test_the_preflight_has_a_line_for_each_check_that_is_not_ok_and_fails_when_one_does(ask: Any) -> None:
    rows = (
        Check("sudo", "the login user may act as root"),
        failed("GPU", "gone", "a GPU", "reboot", code="gpu-unresponsive"),
    )
    result = ask("--preflight", found=[HostPreflight("spark-01", rows)])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "Spark\tCheck\tState\tFound\tExpected\tDo",
        "spark-01\tGPU\tfail\tgone\ta GPU\treboot",
        "",
        "Compared\tState\tValue\tSparks",
        "kernel\tdiffers\t7.0\tspark-01, spark-03",
        "kernel\tdiffers\t6.17\tspark-02",
        "CUDA of the driver\tunknown\t13.0\tspark-01",
        "CUDA of the driver\tunknown\tno GPU\tspark-02",
    ]
    assert result.stderr == "1 Spark: 1 check ok, 1 fail (--all lists them)\n"
    assert ask("--preflight", found=[HostPreflight("spark-01", rows[:1])]).exit_code == 0


def test_a_container_that_never_started_has_no_time(ask: Any) -> None:
    never = replace(NANO, since="0001-01-01T00:00:00Z")
    assert "0001" not in ask(found=[SparkStatus("spark-01", (never,), 60.0, 119.7)]).output


def test_a_preflight_lists_what_is_the_same_on_request(ask: Any) -> None:
    rows = (Check("sudo", "the login user may act as root"),)
    assert "Docker" not in ask("--preflight").stdout
    lines = ask("--preflight", "--all", found=[HostPreflight("spark-01", rows)]).stdout.splitlines()
    assert "spark-01\tsudo\tok\tthe login user may act as root\t\t" in lines
    assert "Docker\tequal\t29.6.2\tspark-01, spark-02" in lines
    assert ask("--all").exit_code == 2


def test_both_have_json(ask: Any) -> None:
    plain = json.loads(ask("--json", found=[SparkStatus("spark-01", (NANO,), 60.0, 119.7)]).stdout)
    assert plain["hosts"][0]["services"][0]["gate"]["ready_s"] == 31.5
    rows = (warned("GPU", "gone", code="gpu-unexpected"),)
    checked = json.loads(ask("--preflight", "--json", found=[HostPreflight("spark-01", rows)]).stdout)
    assert checked["hosts"][0]["state"] == "warn"
    (check,) = checked["hosts"][0]["checks"]
    assert check["state"] == "warn"
    assert check["diagnostic"]["code"] == "gpu-unexpected"
    assert [one["differs"] for one in checked["parity"]] == [True, False, False]
    assert checked["parity"][2]["unknown"] == [{"host": "spark-02", "reason": "no GPU"}]


def test_a_candidate_container_is_for_the_preflight_alone(ask: Any) -> None:
    assert ask("--run").exit_code == 2
