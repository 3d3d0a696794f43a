"""``sparkfleet apply``: show the plan, ask, and run the deploy with pyinfra."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet.cli import arguments
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.exit_codes import Code

if TYPE_CHECKING:
    from sparkfleet.plan.model import Plan


@click.command()
@arguments.INVENTORY
@arguments.LIMIT
@click.option("-y", "--yes", is_flag=True, help="Do not ask before changes.")
@click.option(
    "--serial",
    is_flag=True,
    help="Replace engines on one Spark (or one cluster) after the other, up to the first failure.",
)
def apply(inventory: Path, limit: tuple[str, ...], yes: bool, serial: bool) -> None:
    """Converge every Spark to its host file: show the plan, ask, then run deploys/serve.py with pyinfra.

    Exit code: 0 every host is as declared, 1 an error, or a host failed or is unknown, 3 declined.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet.run.fleet_plan import fleet_plan  # noqa: PLC0415
    from sparkfleet.fleet.run.turns import SERIAL  # noqa: PLC0415
    from sparkfleet.plan.report import plan_text  # noqa: PLC0415
    from sparkfleet.terminal import echo_report  # noqa: PLC0415

    if not yes:
        require_terminal("apply", inventory, f"sparkfleet plan {inventory}")
    inventory = enter_fleet_directory(inventory)
    whole_plan = fleet_plan(inventory, limit)
    echo_report(plan_text(whole_plan))
    confirm(whole_plan, yes=yes)
    become_pyinfra(inventory, limit, whole_plan, "serve", {SERIAL: "yes"} if serial else {})


def require_terminal(command: str, inventory: Path, preview: str) -> None:
    """Raise SparkfleetError if there is nobody to ask; ``preview`` is the command that shows the plan."""
    if not sys.stdin.isatty():
        raise SparkfleetError(
            Diagnostic(
                f"sparkfleet {command}",
                "no terminal for the confirmation prompt",
                "-y or a terminal",
                f"{preview}, then sparkfleet {command} -y {inventory}",
                code="confirmation-required",
            )
        )


def confirm(plan: Plan, *, yes: bool) -> None:
    """Return when there are changes and they are approved; else end with the exit code."""
    from sparkfleet.plan.report import question  # noqa: PLC0415

    if not any(host.proceeds for host in plan.hosts):
        sys.exit(plan.exit_code)
    if not yes and not click.confirm(question(plan)):
        click.echo("cancelled: no host was changed", err=True)
        sys.exit(Code.DECLINED)


def enter_fleet_directory(inventory: Path) -> Path:
    """Make the directory that has ``inventories/`` the working directory; return the path from there.

    pyinfra reads ``config.py`` and the paths of deploys from the working directory.
    """
    root = inventory.absolute().parent.parent
    inside = inventory.absolute().relative_to(root)
    os.chdir(root)
    return inside


def become_pyinfra(
    inventory: Path, limit: Sequence[str], approved: Plan, deploy: str, data: Mapping[str, str] | None = None
) -> None:
    """Become pyinfra with the fleet directory's deploy, or the shipped one: Ctrl-C and exit code are its own.

    A host whose plan is not the approved one any more is refused. ``data``: pyinfra's, for the deploy.
    """
    from sparkfleet import fleet_directory  # noqa: PLC0415
    from sparkfleet.fleet.run.fleet_run import APPROVED  # noqa: PLC0415

    own = Path(f"deploys/{deploy}.py")
    shipped = [] if Path("config.py").exists() else ["--config", str(fleet_directory.ROOT / "config.py")]
    path = own if own.exists() else fleet_directory.deploy(deploy)
    limits = [argument for host in limit for argument in ("--limit", host)]
    pairs = (data or {}).items()
    values = [argument for key, value in pairs for argument in ("--data", f"{key}={json.dumps(value)}")]
    argv = [sys.executable, "-m", "pyinfra", *shipped, str(inventory), str(path), "-y", *limits, *values]
    fingerprints = json.dumps({host.host: host.fingerprint for host in approved.hosts})
    sys.stdout.flush()
    os.execve(argv[0], argv, {**os.environ, APPROVED: fingerprints})  # noqa: S606  (argv, no shell)
