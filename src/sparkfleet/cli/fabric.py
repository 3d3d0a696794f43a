"""``sparkfleet fabric``: throughput of the links between the Sparks of a cluster."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet import terminal
from sparkfleet.cli import arguments, completers, output
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.fabric import BenchResult, LinkRate
from sparkfleet.suggest import did_you_mean

if TYPE_CHECKING:
    from sparkfleet.desired_state import Host


@click.group()
def fabric() -> None:
    """Measure the links between the Sparks of a cluster."""


@fabric.command()
@arguments.INVENTORY
@click.argument("cluster", shell_complete=completers.clusters)
@click.option(
    "--seconds",
    default=5,
    show_default=True,
    type=click.IntRange(1, 60),
    help="Duration of each measurement.",
)
@arguments.JSON
def bench(inventory: Path, cluster: str, seconds: int, as_json: bool) -> None:
    """Measure the throughput of each link, and of all links at once. Slows down running services.

    Uses ib_write_bw (perftest) if both Sparks have it and RDMA, else iperf3, else plain TCP streams.
    The results are stored on the sending Spark, in /var/lib/sparkfleet/evidence.

    Exit code: 0 success, 1 an error, or a link could not be measured.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet.fabric_bench import fabric_bench  # noqa: PLC0415

    results = fabric_bench(
        inventory,
        _members(inventory, cluster),
        seconds,
        lambda who: click.echo(f"bench: measuring {who}", err=True),
    )
    if as_json:
        measured = [{"from": sender, **asdict(result)} for sender, result in results]
        click.echo(json.dumps({"schema": 1, "measured": measured}, indent=1))
    else:
        rows = [row for sender, result in results for row in _rows(sender, result)]
        output.table(("From", "To", "By", "Link", "Gb/s"), rows)
    failed = False
    for sender, result in results:
        for link in (*result.alone, *result.at_once):
            if link.diagnostic:
                failed = True
                located = replace(link.diagnostic, location=f"{sender}: {link.link} to {result.to}")
                terminal.echo_diagnostic(located)
    sys.exit(failed)


def _members(inventory: Path, cluster: str) -> list[Host]:
    from sparkfleet.config import load  # noqa: PLC0415
    from sparkfleet.inventory import load_fleet  # noqa: PLC0415

    diagnostics: tuple[Diagnostic, ...] = ()
    try:
        hosts = [host for host in load_fleet(inventory).hosts if host.member]
    except SparkfleetError as error:
        if cluster in load.cluster_names(inventory):
            raise
        hosts, diagnostics = [], error.diagnostics
    members = [host for host in hosts if host.member and host.member.cluster == cluster]
    if not members:
        names = load.cluster_names(inventory)
        raise SparkfleetError(
            *diagnostics,
            Diagnostic(
                str(inventory),
                f"unknown cluster '{cluster}'",
                f"one of: {', '.join(names)}"
                if names
                else "a cluster file in clusters/ beside the host files",
                did_you_mean(
                    cluster,
                    names,
                    "" if names else f"write {load.fleet_paths(inventory).clusters / cluster}.yaml",
                ),
                code="cluster-unknown",
            ),
        )
    return sorted(members, key=lambda host: host.member.rank if host.member else 0)


def _rows(sender: str, result: BenchResult) -> list[tuple[str, ...]]:
    """Return a row for each link on its own, and one for all at once if there are several."""
    begin = (sender, result.to, result.tool)
    rows: list[tuple[str, ...]] = [(*begin, link.link, _figure(link)) for link in result.alone]
    if len(rows) == 1:
        return rows
    failed = next((link for link in result.at_once if link.gbits is None), None)
    total = sum(link.gbits or 0 for link in result.at_once)
    return [*rows, (*begin, "all at once", _figure(failed or LinkRate("", total)))]


def _figure(link: LinkRate) -> str:
    if link.gbits is not None:
        return f"{link.gbits:.1f}"
    return f"failed: {link.diagnostic.message}" if link.diagnostic else "failed"
