"""What pyinfra's command line prints beside the plan and the summary of sparkfleet.

pyinfra counts its operations, not changes: the numbers of two tables would contradict each other. Where the
plan has every operation of the run, its plan, question and summary replace those of pyinfra.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import click
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import State, StateStage
from pyinfra.context import ctx_state

from sparkfleet.exit_codes import Code
from sparkfleet.fleet.run import fleet_run
from sparkfleet.plan.report import question

_TITLES = ("Skipping change detection", "Beginning operation run", "Results:", "Disconnecting from hosts")
"""Log lines of pyinfra that would announce what is not printed."""


def install() -> None:
    """Patch pyinfra's command line."""
    from pyinfra_cli import cli  # noqa: PLC0415  (pyinfra's command line is running)

    setattr(cli, "_handle_commands", _with_question(cli._handle_commands))  # noqa: B010, SLF001
    for name in ("connect_all", "run_ops"):
        setattr(cli, name, _without_hosts(getattr(cli, name)))
    setattr(cli, "print_results", _unless_reported(cli.print_results))  # noqa: B010
    logging.getLogger("pyinfra").addFilter(_LogFilter())


def _without_hosts(original: Callable[..., Any]) -> Callable[..., Any]:
    """End with an exit code where pyinfra ends with "No hosts remaining!" and a line of the source."""

    @functools.wraps(original)
    def call(state: State, *args: Any, **more: Any) -> Any:
        try:
            return original(state, *args, **more)
        except PyinfraError:
            if state.active_hosts:
                raise
            fleet_run.print_summary(state)
            raise SystemExit(Code.ERROR) from None

    return call


def _with_question(original: Callable[..., Any]) -> Callable[..., Any]:
    """Ask before changes as ``sparkfleet apply`` does, in place of pyinfra's table and "Press enter"."""

    @functools.wraps(original)
    def call(state: State, *args: Any, **more: Any) -> Any:
        can_diff, *rest = _without_hosts(original)(state, *args, **more)
        if "--json" in sys.argv or not fleet_run.run_of(state).reports(state):
            return can_diff, *rest
        if "--dry" not in sys.argv and state.check_for_changes:
            _ask(state)
        return False, *rest

    return call


def _ask(state: State) -> None:
    plan = fleet_run.whole_plan(state)
    if any(host.proceeds for host in plan.hosts) and not click.confirm(question(plan), err=True):
        fleet_run.run_of(state).closing = False
        click.echo("cancelled: no host was changed", err=True)
        raise SystemExit(Code.DECLINED)


def _unless_reported(original: Callable[..., Any]) -> Callable[..., Any]:
    """Leave out pyinfra's results: those of sparkfleet follow."""

    @functools.wraps(original)
    def call(state: State) -> None:
        if not fleet_run.run_of(state).reports(state):
            original(state)

    return call


class _LogFilter(logging.Filter):
    """Drops log lines of pyinfra about what sparkfleet reports itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is printed."""
        is_info = record.levelno <= logging.INFO
        if is_info and fleet_run.APPROVED in os.environ:  # a part of ``sparkfleet apply``
            return False
        run = fleet_run.known_run(ctx_state.get()) if ctx_state.isset() else None
        if run is None:
            return True
        text = str(record.msg)
        if is_info:
            return not run.shown or not (run.executes_own or any(title in text for title in _TITLES))
        if record.levelno < logging.ERROR:
            return True
        if "executed " in text:
            return not run.executes_own
        # The reason of a failed connection is in the plan or in the summary, with its remedy.
        return bool(ctx_state.get().current_stage != StateStage.Connect)
