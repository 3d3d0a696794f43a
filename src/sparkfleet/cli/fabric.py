"""``sparkfleet fabric``: throughput of the links between the Sparks of a cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparkfleet.cli import arguments, output
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.suggest import did_you_mean

if TYPE_CHECKING:
    from sparkfleet.config.resolved import Host


@click.group()
def fabric() -> None:
    """Measure the links between the Sparks of a cluster."""


@fabric.command()
@arguments.INVENTORY
@click.argument("cluster")
@click.option(
    "--seconds",
    default=5,
    show_default=True,
    type=click.IntRange(1, 60),
    help="Duration of each measurement.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(inventory: Path, cluster: str, seconds: int, as_json: bool) -> None:
    """Measure the throughput of each link, and of all links at once. Slows down running services.

    Uses ib_write_bw (perftest) if both Sparks have it and RDMA, else iperf3, else plain TCP streams.
    The results are stored on the sending Spark, in /var/lib/sparkfleet/evidence.

    Exit code: 0 success, 1 an error, or a link could not be measured.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.patch_for_gevent()  # before any import that opens connections, and for this command only
    pyinfra_patches.postpone("invoke")
    from sparkfleet.fleet.fabric_bench import fabric_bench  # noqa: PLC0415

    results = fabric_bench(
        inventory,
        _members(inventory, cluster),
        seconds,
        lambda who: click.echo(f"bench: measuring {who}", err=True),
    )
    if as_json:
        click.echo(json.dumps({"schema": 1, "measured": results}, indent=1))
    else:
        output.table(("From", "To", "By", "Link", "Gb/s"), [row for one in results for row in _rows(one)])
    sys.exit(any(link["problem"] for one in results for link in (*one["alone"], *one["at_once"])))


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
    found = [host for host in hosts if host.member and host.member.cluster == cluster]
    if not found:
        names = load.cluster_names(inventory)
        raise SparkfleetError(
            *diagnostics,
            Diagnostic(
                str(inventory),
                f"unknown cluster '{cluster}'",
                f"one of: {', '.join(names)}" if names else "a cluster file in clusters/",
                did_you_mean(cluster, names, ""),
                code="cluster-unknown",
            ),
        )
    return sorted(found, key=lambda host: host.member.rank if host.member else 0)


def _rows(one: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each link by itself, and one for all at once when there are several."""
    begin = (one["from"], one["to"], one["tool"])
    rows: list[tuple[str, ...]] = [(*begin, link["link"], _figure(link)) for link in one["alone"]]
    if len(rows) == 1:
        return rows
    bad = [link for link in one["at_once"] if link["gbits"] is None]
    both = bad[0] if bad else {"gbits": sum(link["gbits"] for link in one["at_once"])}
    return [*rows, (*begin, "all at once", _figure(both))]


def _figure(link: dict[str, Any]) -> str:
    return f"{link['gbits']:.1f}" if link["gbits"] is not None else f"failed: {link['problem']}"
