"""The first line of every deploy: look at the Spark, show the difference. Changes nothing."""

from __future__ import annotations

from pyinfra.context import host, state

from sparkfleet.operations import fleet_run


def show() -> None:
    """Plan this host; the report of the fleet is printed once, when every host has been planned."""
    fleet_run.show_plan(state, host)
