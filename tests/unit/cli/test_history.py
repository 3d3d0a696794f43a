"""``sparkfleet history`` and ``rollback``: what is shown, and what is passed on to the run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sparkfleet.cli import apply
from sparkfleet.cli.history import history
from sparkfleet.cli.rollback import rollback
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import CurrentGeneration, PromotedGeneration, convert
from sparkfleet.contract.history import HistoryEntry, RunContext
from sparkfleet.fleet.kept_files import StoredState
from sparkfleet.plan.model import ChangeSet, HostPlan, Plan
from sparkfleet.plan.operations import RemoveService
from sparkfleet.plan.rollback import KeptService, Selection
from tests.unit.onhost.world import generation

OLD = convert(PromotedGeneration, generation(image="img:1"), promoted_at=1.0, rollout="nano-1")
NEW = convert(CurrentGeneration, generation(image="img:2"), promoted_at=2.0)
NANO = KeptService("nano", NEW, (OLD, convert(PromotedGeneration, NEW)))
ENTRY = HistoryEntry(
    1.0, "nano", "promoted", "nano serves generation x", "anna@desk",
    RunContext("serve", "c" * 40, dirty=True),
    duration_s=300.0, downtime_s=250.0,
)  # fmt: skip


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    (tmp_path / "inventories" / "home").mkdir(parents=True)
    (tmp_path / "inventories" / "home" / "spark-01.yaml").write_text("serve: []\n")
    path = tmp_path / "inventories" / "home.py"
    path.write_text("")
    return str(path)


@pytest.fixture(autouse=True)
def no_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches.before_connections", lambda: None)


def shown(monkeypatch: pytest.MonkeyPatch, inventory: str, state: Any, *args: str) -> tuple[int, str]:
    # Not the module itself: it imports pyinfra's command line, which patches the process of all tests.
    module = SimpleNamespace(fleet_history=lambda *_: [state])
    monkeypatch.setitem(sys.modules, "sparkfleet.fleet.history", module)
    done = CliRunner().invoke(history, [inventory, *args])
    return done.exit_code, done.output


def host_history(*, unknown: Diagnostic | None = None) -> Any:
    stored = StoredState() if unknown else StoredState({"nano": NANO}, (ENTRY,))
    return SimpleNamespace(host="spark-01", stored=stored, unknown=unknown)


def test_changes_and_generations_are_listed(monkeypatch: pytest.MonkeyPatch, inventory: str) -> None:
    code, text = shown(monkeypatch, inventory, host_history())
    lines = [line.split("\t") for line in text.splitlines()]
    assert code == 0
    assert lines[1][2:] == [
        "nano", "serve promoted", "anna@desk", "cccccccc+", "5 min", "4 min", "nano serves generation x",
    ]  # fmt: skip
    rows = [(row[2], row[-1]) for row in lines[4:]]
    assert rows == [(NEW.id, "serves"), (OLD.id, "previous")]


def test_json_has_changes_and_generations(monkeypatch: pytest.MonkeyPatch, inventory: str) -> None:
    _, text = shown(monkeypatch, inventory, host_history(), "--json")
    (host,) = json.loads(text)["hosts"]
    assert host["changes"] == [ENTRY.to_json()]
    assert [(one["id"], one["serves"]) for one in host["generations"]["nano"]] == [
        (OLD.id, False),
        (NEW.id, True),
    ]


def test_a_host_that_is_unknown_is_an_error(monkeypatch: pytest.MonkeyPatch, inventory: str) -> None:
    lost = Diagnostic("spark-01", "connection refused", code="ssh-unreachable")
    code, text = shown(monkeypatch, inventory, host_history(unknown=lost))
    assert (code, "connection refused" in text) == (1, True)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, inventory: str) -> Callable[..., tuple[int, list[Any]]]:
    """Run ``rollback``; return its exit code, and what was planned and executed."""

    def call(*args: str, changes: bool = True) -> tuple[int, list[Any]]:
        calls: list[Any] = []
        sets = (ChangeSet("nano", (RemoveService("nano", changes=()),)),) if changes else ()

        def plan(_: Path, limit: tuple[str, ...], selection: Selection) -> Plan:
            calls.append((limit, selection))
            return Plan((HostPlan("spark-01", sets),))

        def become(_: Path, limit: tuple[str, ...], __: Plan, deploy: str, data: dict[str, str]) -> None:
            calls.append((limit, deploy, data))

        monkeypatch.setitem(sys.modules, "sparkfleet.fleet.rollback_plan", SimpleNamespace(fleet_plan=plan))
        monkeypatch.setattr(apply, "become_pyinfra", become)
        monkeypatch.setattr(apply, "enter_fleet_directory", lambda path: path)
        return CliRunner().invoke(rollback, [inventory, *args]).exit_code, calls

    return call


def test_what_was_planned_is_executed(run: Callable[..., tuple[int, list[Any]]]) -> None:
    assert run("spark-01/nano", "--to", "123456", "-y") == (
        0,
        [
            (("spark-01",), Selection("nano", "123456")),
            (("spark-01",), "rollback", {"service_target": "spark-01/nano", "rollback_to": "123456"}),
        ],
    )


@pytest.mark.parametrize("target", [(), ("spark-01",)])
def test_a_generation_without_its_service_is_refused(
    run: Callable[..., tuple[int, list[Any]]], target: tuple[str, ...]
) -> None:
    code, calls = run(*target, "--to", "123456", "-y")
    assert (code != 0, calls) == (True, [])


def test_a_dry_run_has_the_exit_code_of_a_plan(run: Callable[..., tuple[int, list[Any]]]) -> None:
    assert run("--dry") == (2, [((), Selection())])
    assert run("--dry", changes=False) == (0, [((), Selection())])


def test_without_changes_nothing_is_executed(run: Callable[..., tuple[int, list[Any]]]) -> None:
    assert run("-y", changes=False) == (0, [((), Selection())])


def test_without_a_terminal_the_preview_is_named(run: Callable[..., tuple[int, list[Any]]]) -> None:
    assert run("spark-01/nano") == (1, [])
