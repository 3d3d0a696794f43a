"""No search for garbage while a plan is made; what goes on for long has it again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType

import click
import pytest

import sparkfleet.cli
from sparkfleet import gc_control
from sparkfleet.fleet.run import fleet_run


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()
    gc.unfreeze()


def searches_in(command: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tell whether a command of that name would run with the search on."""
    seen: list[bool] = []
    module = ModuleType("command_of_test")
    setattr(module, command, click.Command(command, callback=lambda: seen.append(gc.isenabled())))
    monkeypatch.setitem(sys.modules, "command_of_test", module)
    monkeypatch.setitem(sparkfleet.cli.COMMANDS, command, ("command_of_test", ""))
    monkeypatch.setattr(sys, "argv", ["sparkfleet", command])
    sparkfleet.cli.main()
    assert gc.isenabled()
    return seen[0]


def test_a_short_command_runs_without_it_and_a_long_one_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not searches_in("plan", monkeypatch)
    assert not searches_in("check", monkeypatch)
    assert searches_in("mirror", monkeypatch)


def test_a_run_searches_again_from_its_first_operation_on() -> None:
    gc_control.pause()
    assert not gc.isenabled()
    fleet_run._Results.operation_start(None, "")  # type: ignore[arg-type]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_resuming_what_was_not_put_off_changes_nothing() -> None:
    gc.unfreeze()
    gc_control.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
