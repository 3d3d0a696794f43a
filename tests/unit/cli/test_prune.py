"""``sparkfleet prune``: shows; removes when asked; says what stayed, and ends with 1 then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparkfleet import fleet
from sparkfleet.cli import cli
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.stage import StageResult
from tests.unit.plan.fake_spark import fresh
from tests.unit.plan.test_prune import HOST, disk

DONE = StageResult("staged", removed=4, freed=30 << 30)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command over one Spark with something to remove, without connections."""
    (tmp_path / "home.py").write_text("")
    (tmp_path / "home").mkdir()
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches.before_connections", lambda: None)

    def run(*args: str, result: StageResult | Diagnostic | None = None, stored: Any = None) -> Result:
        seen = {"spark-01": (HOST, replace(fresh(HOST), stored=stored or disk()))}
        events: list[Any] = []
        pruning = SimpleNamespace(
            probe_all=lambda _, named: SimpleNamespace(seen=seen, close=lambda: events.append("closed")),
            has_other_programs=lambda _: False,
            remove=lambda _, plans, report: {one.host: result for one in plans},
        )
        monkeypatch.setattr(fleet, "prune", pruning, raising=False)
        outcome = CliRunner().invoke(cli, ["prune", str(tmp_path / "home.py"), *args])
        assert events == ["closed"]
        return outcome

    return run


def test_it_shows_and_touches_nothing(ask: Any) -> None:
    outcome = ask()
    assert outcome.exit_code == 0
    assert "4 to remove, up to 28.0 GiB" in outcome.output
    assert "removed," not in outcome.output


def test_asked_it_removes_and_says_what_came_free(ask: Any) -> None:
    outcome = ask("--yes", result=DONE)
    assert (outcome.exit_code, outcome.stdout.splitlines()[-1]) == (0, "spark-01   4 removed, 30.0 GiB freed")


def test_a_remaining_item_is_exit_code_1_with_its_reason_as_json(ask: Any) -> None:
    remaining = (Diagnostic("x", "open in a process", hint="end it", code="item-not-removed"),)
    outcome = ask("--yes", "--json", result=replace(DONE, remaining=remaining))
    assert outcome.exit_code == 1
    (found,) = json.loads(outcome.stdout)["hosts"][0]["result"]["remaining"]
    assert (found["location"], found["message"]) == ("spark-01: x", "open in a process")
    assert found["code"] == "item-not-removed"
    assert "spark-01: x: open in a process [item-not-removed]" in outcome.stderr


def test_a_spark_that_failed_is_reported_with_a_remedy(ask: Any) -> None:
    outcome = ask(
        "--yes", "--json", result=Diagnostic("spark-01", "services changed", hint="prune again", code="test")
    )
    assert outcome.exit_code == 1
    error = json.loads(outcome.stdout)["hosts"][0]["result"]["error"]
    assert (error["message"], error["code"]) == ("services changed", "test")
    assert "prune again" in outcome.stderr


def test_only_what_is_older_is_shown_when_asked(ask: Any) -> None:
    assert "4 to remove" in ask("--older-than", "1").output  # things of 1970
    assert json.loads(ask("--limit", "spark-01", "--json").stdout)["hosts"][0]["bytes"] > 0
