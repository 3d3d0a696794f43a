"""``sparkfleet plan``: the same plan as ``pyinfra ... --dry``, with exit codes for scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sparkfleet.cli import arguments


@click.command()
@arguments.INVENTORY
@arguments.LIMIT
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(inventory: Path, limit: tuple[str, ...], as_json: bool) -> None:
    """Show what a run would change, field by field. Changes nothing.

    Exit code: 0 no changes, 2 changes, 1 an error, or a host is unknown or blocked.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet.run.fleet_plan import fleet_plan  # noqa: PLC0415
    from sparkfleet.plan.as_json import plan_data  # noqa: PLC0415
    from sparkfleet.plan.report import plan_text  # noqa: PLC0415
    from sparkfleet.terminal import echo_report  # noqa: PLC0415

    whole_plan = fleet_plan(inventory, limit)
    if as_json:
        click.echo(json.dumps(plan_data(whole_plan), indent=1))
    else:
        echo_report(plan_text(whole_plan))
    sys.exit(whole_plan.exit_code)
