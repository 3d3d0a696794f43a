"""``sparkfleet stop``, ``start`` and ``restart``: services as they are on the hosts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sparkfleet.cli import apply as apply_command
from sparkfleet.cli import arguments
from sparkfleet.cli.arguments import Target

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask before changes.")
DRY = click.option("--dry", is_flag=True, help="Show what would be done; change nothing.")


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (DRY, YES, arguments.OPTIONAL_TARGET, arguments.INVENTORY):
        function = decorate(function)
    return function


@click.command()
@_options
@click.option("--why", default="", metavar="TEXT", help="Reason, which plan and status show.")
def stop(inventory: Path, target: Target | None, yes: bool, dry: bool, why: str) -> None:
    """Stop services until `sparkfleet start`, also over reboots; of a cluster, all members.

    The host records who stopped them, when and why. `sparkfleet plan` and `status` show it, and no run of
    deploys/serve.py starts them.

    Exit code: 0 stopped, or nothing to stop; 1 an error, or a host failed or is unknown; 2 there are
    changes (with --dry); 3 declined.
    """
    _run("stop", inventory, target, yes=yes, dry=dry, reason=why)


@click.command()
@_options
def start(inventory: Path, target: Target | None, yes: bool, dry: bool) -> None:
    """Start stopped services through their readiness gate, each as it served last.

    Changes of the files since then are not applied: that is what the next `sparkfleet apply` does.

    Exit code: 0 they serve; 1 an error, a host is unknown, or a service did not pass its gate; 2 there
    are changes (with --dry); 3 declined.
    """
    _run("start", inventory, target, yes=yes, dry=dry)


@click.command()
@_options
def restart(inventory: Path, target: Target | None, yes: bool, dry: bool) -> None:
    """Restart services through their readiness gate, each as it served last; start those that are stopped.

    Exit code: 0 they serve; 1 an error, a host is unknown, or a service did not pass its gate; 2 there
    are changes (with --dry); 3 declined.
    """
    _run("restart", inventory, target, yes=yes, dry=dry)


def _run(
    name: str, inventory: Path, target: Target | None, *, yes: bool, dry: bool, reason: str = ""
) -> None:
    if not (yes or dry):
        apply_command.require_terminal(name, inventory, f"sparkfleet {name} --dry {inventory}")
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415  (the help needs none of it)

    pyinfra_patches.before_connections()
    from sparkfleet.fleet import service_commands  # noqa: PLC0415
    from sparkfleet.plan import service_commands as commands  # noqa: PLC0415
    from sparkfleet.plan.model import Command  # noqa: PLC0415
    from sparkfleet.plan.report import plan_text  # noqa: PLC0415
    from sparkfleet.terminal import echo_report  # noqa: PLC0415

    inventory = apply_command.enter_fleet_directory(inventory)
    hosts = members(inventory, target) if target else ()
    chosen = commands.Target(target.host, target.service) if target else commands.Target()
    request = commands.Request(Command(name), chosen, reason)
    plan = service_commands.fleet_plan(inventory, hosts, request)
    echo_report(plan_text(plan))
    if dry:
        sys.exit(plan.exit_code)
    apply_command.confirm(plan, yes=yes)
    values = ((commands.TARGET, str(chosen)), (commands.REASON, reason))
    data = {key: value for key, value in values if value}
    apply_command.become_pyinfra(inventory, hosts, plan, name, data)


def members(inventory: Path, target: Target) -> tuple[str, ...]:
    """Return the host of a target; if it is about a cluster's service, all members."""
    from sparkfleet.inventory import Pins, load_fleet  # noqa: PLC0415

    hosts = load_fleet(inventory, pins=Pins.OPTIONAL).hosts
    member = next((one.member for one in hosts if one.name == target.host), None)
    return member.hosts if member and target.service in {"", member.service} else (target.host,)
