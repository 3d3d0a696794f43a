"""``sparkfleet rollback``: show the way back to a kept generation, ask, and run the deploy with pyinfra."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sparkfleet.cli import apply as apply_command
from sparkfleet.cli import arguments
from sparkfleet.cli.arguments import Target


@click.command()
@arguments.INVENTORY
@arguments.OPTIONAL_TARGET
@click.option(
    "--to", default="", metavar="GENERATION",
    help="Its id in `sparkfleet history`, or the beginning; or id of its rollout. Default: the one before.",
)  # fmt: skip
@click.option("--dry", is_flag=True, help="Show the plan only.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before changes.")
def rollback(inventory: Path, target: Target | None, to: str, dry: bool, yes: bool) -> None:
    """Go back to a generation that a Spark keeps: show the plan, ask, and run deploys/rollback.py by pyinfra.

    Without HOST each service of the fleet goes back to its previous generation. All members of a cluster go
    back at once. The recorded definition is started, through its readiness gate; the fleet's files stay as
    they are, so the next plan shows the difference.

    Exit code: 0 rolled back, or nothing to roll back, 1 an error, or a host failed, is unknown or blocked,
    2 there are changes (with --dry), 3 declined.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet import rollback_plan  # noqa: PLC0415
    from sparkfleet.plan import service_commands as commands  # noqa: PLC0415
    from sparkfleet.plan.report import plan_text  # noqa: PLC0415
    from sparkfleet.plan.rollback import GENERATION, Selection  # noqa: PLC0415
    from sparkfleet.terminal import echo_report  # noqa: PLC0415

    if to and not (target and target.service):
        raise click.UsageError("--to: a generation is of one service. Name it: HOST/SERVICE.")
    if not (yes or dry):
        apply_command.require_terminal("rollback", inventory, f"sparkfleet rollback --dry {inventory}")
    inventory = apply_command.enter_fleet_directory(inventory)
    hosts = members(inventory, target.host) if target else ()
    selection = Selection(target.service if target else "", to)
    plan = rollback_plan.fleet_plan(inventory, hosts, selection)
    echo_report(plan_text(plan))
    if dry:
        sys.exit(plan.exit_code)
    apply_command.confirm(plan, yes=yes)
    chosen = commands.Target(target.host, target.service) if target else commands.Target()
    data = {name: value for name, value in ((commands.TARGET, str(chosen)), (GENERATION, to)) if value}
    apply_command.become_pyinfra(inventory, hosts, plan, "rollback", data)


def members(inventory: Path, host: str) -> tuple[str, ...]:
    """Return the host, and the other members of its cluster, which go back together."""
    from sparkfleet.inventory import Pins, load_fleet  # noqa: PLC0415

    found = next((one for one in load_fleet(inventory, pins=Pins.OPTIONAL).hosts if one.name == host), None)
    return found.member.hosts if found and found.member else (host,)
