"""The first call of every deploy: probe the host and show the plan. Changes nothing."""

from __future__ import annotations

from pyinfra.context import host, state

from sparkfleet.fleet.run import fleet_run
from sparkfleet.plan.model import Step


def show(*steps: Step) -> None:
    """Plan this host; the report of the fleet is printed once, when every host has been planned.

    With ``steps`` the plan, and so the run, is of these alone.
    """
    if steps:
        fleet_run.run_of(state).steps = steps
    fleet_run.show_plan(state, host)
