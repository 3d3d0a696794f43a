"""``sparkfleet prune``: list or delete unused images, models and caches."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path

import click

from sparkfleet import terminal
from sparkfleet.cli import arguments
from sparkfleet.exit_codes import Code

DAY_S = 86400


@click.command()
@arguments.INVENTORY
@click.option(
    "--limit",
    multiple=True,
    metavar="HOST",
    help="Only these hosts; artifacts that other hosts need are kept.",
)
@click.option("--yes", is_flag=True, help="Delete the listed items; without it nothing is deleted.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=0,
    metavar="DAYS",
    help="Only items that were not used for DAYS days.",
)
@click.option(
    "--keep", type=click.IntRange(min=0), default=0, metavar="N",
    help="Also keep the newest N generations of each service, in addition to the rollback target.",
)  # fmt: skip
@click.option(
    "--include-unmanaged", multiple=True, metavar="NAME",
    help="Also delete this image or model, which sparkfleet does not manage; may be repeated.",
)  # fmt: skip
@click.option("--exclude-host", multiple=True, metavar="HOST", help="Treat this host as decommissioned.")
@click.option("--json", "as_json", is_flag=True, help="Print the list and the results as JSON.")
def prune(  # noqa: PLR0917  (one a switch)
    inventory: Path,
    limit: tuple[str, ...],
    yes: bool,
    older_than: float,
    keep: int,
    include_unmanaged: tuple[str, ...],
    exclude_host: tuple[str, ...],
    as_json: bool,
) -> None:
    """List what no declared or running service of the fleet needs, nor a rollback; delete it with --yes.

    This covers images and models that sparkfleet fetched, compile caches, old generations, and evidence of
    failed starts. Images and models that sparkfleet did not fetch are listed, and kept unless you name them.

    Exit code: 0 success, 1 a host is unreachable or an item could not be deleted.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.cli import output  # noqa: PLC0415
    from sparkfleet.contract.diagnostic import Diagnostic  # noqa: PLC0415
    from sparkfleet.contract.stage import StageResult  # noqa: PLC0415
    from sparkfleet.fleet import prune  # noqa: PLC0415
    from sparkfleet.plan.prune import PruneOptions, fleet_prune, limit_to  # noqa: PLC0415
    from sparkfleet.plan.prune_report import prune_data, prune_text  # noqa: PLC0415
    from sparkfleet.probe.observation import Observed  # noqa: PLC0415
    from sparkfleet.terminal import echo_report  # noqa: PLC0415
    from sparkfleet.units import size  # noqa: PLC0415

    options = PruneOptions(time.time(), older_than * DAY_S, keep, include_unmanaged)
    fleet = prune.probe_all(inventory, {"--limit": limit, "--exclude-host": exclude_host})
    try:
        excluded = frozenset(name for name in fleet.seen if any(fnmatch(name, one) for one in exclude_host))
        options = replace(options, exclude_hosts=excluded)
        plan = fleet_prune(list(fleet.seen.values()), options)
        plan = limit_to(plan, limit) if limit else plan
        stale = {
            name
            for name, (_, observed) in fleet.seen.items()
            if isinstance(observed, Observed) and prune.has_other_programs(observed)
        }
        if not as_json:
            echo_report(prune_text(plan, stale))
        results: dict[str, StageResult | Diagnostic] = {}
        if yes:
            results = prune.remove(
                fleet, plan.hosts, lambda name, text: click.echo(f"{name}   {text}", err=True)
            )
    finally:
        fleet.close()
    data = prune_data(plan)
    failed = any(host.diagnostic for host in plan.hosts if host.host not in excluded) or bool(plan.unknown)
    for name, result in results.items():
        row = next(row for row in data["hosts"] if row["host"] == name)
        if isinstance(result, Diagnostic):
            row["result"] = {"error": asdict(result)}
            terminal.echo_diagnostic(result)
            failed = True
            continue
        remaining = [replace(one, location=f"{name}: {one.location}") for one in result.remaining]
        row["result"] = {
            "removed": result.removed,
            "freed": result.freed,
            "remaining": [asdict(one) for one in remaining],
        }
        for one in remaining:
            terminal.echo_diagnostic(one)
        failed = failed or bool(remaining)
        if not as_json:
            click.echo(f"{name}   {result.removed} removed, {size(result.freed)} freed")
    if as_json:
        output.as_json(data)
    sys.exit(Code.ERROR if failed else Code.OK)
