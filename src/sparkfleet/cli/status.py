"""``sparkfleet status``: what every Spark serves; with ``--preflight``, whether the host is ready."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparkfleet import terminal
from sparkfleet.cli import arguments, output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sparkfleet.contract.diagnostic import Diagnostic
    from sparkfleet.plan.parity import Row
    from sparkfleet.plan.preflight.model import Check
    from sparkfleet.plan.preflight.parity import FleetPreflight
    from sparkfleet.plan.status import ServiceStatus, SparkStatus


@click.command()
@arguments.INVENTORY
@arguments.LIMIT
@click.option("--preflight", is_flag=True, help="Check each Spark's requirements for serving.")
@click.option(
    "--run", is_flag=True, help="With --preflight: also start a GPU container from an image on the Spark."
)
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help="With --preflight: also list the checks that are ok, and what is the same on all Sparks.",
)
@arguments.JSON
def status(  # noqa: PLR0917  (click passes them by name)
    inventory: Path, limit: tuple[str, ...], preflight: bool, run: bool, show_all: bool, as_json: bool
) -> None:
    """Show what every Spark serves, since when, and the results of its readiness gate. Changes nothing.

    With --preflight: the checks that are not ok, each with its remedy; then what differs between the Sparks.

    Exit code: 0 healthy, or stopped on purpose; 1 a host is unreachable, a service is not running, or a
    check failed.
    """
    if (run or show_all) and not preflight:
        raise click.UsageError(f"{'--run' if run else '--all'} requires --preflight")
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet import queries  # noqa: PLC0415

    if preflight:
        checked = queries.fleet_preflight(inventory, limit, run=run)
        _show_preflight(checked, show_all=show_all, as_json=as_json)
        sys.exit(any(spark.state == "fail" for spark in checked.hosts))
    sparks = queries.fleet_status(inventory, limit)
    _show_status(sparks, as_json=as_json)
    sys.exit(
        any(
            spark.unknown
            or spark.warnings
            or any(s.degraded or (s.state != "running" and not s.stop) for s in spark.services)
            for spark in sparks
        )
    )


def _show_preflight(checked: FleetPreflight, *, show_all: bool, as_json: bool) -> None:
    if as_json:
        hosts = [
            {"host": one.host, "state": one.state, "checks": [_check(check) for check in one.checks]}
            for one in checked.hosts
        ]
        parity = [_compared(one) for one in checked.parity]
        click.echo(json.dumps({"schema": 2, "hosts": hosts, "parity": parity}, indent=1, default=str))
        return
    from sparkfleet.plan.preflight.report import counts, preflight_text  # noqa: PLC0415

    if terminal.is_terminal():
        terminal.echo_report(preflight_text(checked, show_all=show_all))
    else:
        shown = [
            (spark.host, check)
            for spark in checked.hosts
            for check in spark.checks
            if show_all or check.diagnostic
        ]
        rows = [(host, check.name, str(check.state), check.found, *_remedy(check)) for host, check in shown]
        output.table(("Spark", "Check", "State", "Found", "Expected", "Do"), rows)
    _show_parity(checked.parity, show_all=show_all)
    rest = "" if show_all else " (--all lists them)"
    click.echo(f"{output.count(len(checked.hosts), 'Spark')}: {counts(*checked.hosts)}{rest}", err=True)


def _remedy(check: Check) -> tuple[str, str]:
    return (check.diagnostic.expected, check.diagnostic.hint) if check.diagnostic else ("", "")


def _show_parity(compared: Sequence[Row], *, show_all: bool) -> None:
    """Print what differs between Sparks, or is unknown; ``show_all``: also what is the same."""
    from sparkfleet.plan.groups import names  # noqa: PLC0415

    rows = [
        (one.name, state, value, names(hosts))
        for one in compared
        if show_all or not one.is_equal
        for state, value, hosts in _parts(one)
    ]
    if rows:
        click.echo()
        output.table(("Compared", "State", "Value", "Sparks"), rows)


def _parts(row: Row) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield state, value and hosts of each value; of those that are unknown, the reason."""
    state = "differs" if row.differs else "equal" if row.is_equal else "unknown"
    for value, hosts in row.values:
        yield state, value, hosts
    for host, reason in row.unknown:
        yield "unknown", reason, (host,)


def _compared(row: Row) -> dict[str, Any]:
    values = [{"value": value, "hosts": hosts} for value, hosts in row.values]
    unknown = [{"host": host, "reason": reason} for host, reason in row.unknown]
    return {"name": row.name, "differs": row.differs, "values": values, "unknown": unknown}


def _check(check: Check) -> dict[str, Any]:
    return {**dataclasses.asdict(check), "state": check.state}


def _show_status(found: list[SparkStatus], *, as_json: bool) -> None:
    if as_json:
        hosts = [dataclasses.asdict(spark) for spark in found]
        click.echo(json.dumps({"schema": 1, "hosts": hosts}, indent=1, default=str))
        return
    rows = [row for spark in found for row in _rows(spark)]
    output.table(("Spark", "Service", "State", "Since", "Generation", "Unit", "Gate", "Memory free"), rows)
    _show(one for spark in found for one in (spark.unknown, *spark.warnings))


def _show(diagnostics: Iterable[Diagnostic | None]) -> None:
    for diagnostic in diagnostics:
        if diagnostic is not None:
            terminal.echo_diagnostic(diagnostic)


def _rows(spark: SparkStatus) -> list[tuple[str, ...]]:
    if spark.unknown:
        return [(spark.host, "", "unknown", "", "", "", "", "")]
    memory = f"{spark.available_gib:.1f} of {spark.total_gib:.1f} GiB"
    activity = f"rollout in progress: {spark.rollout}" if spark.rollout else "idle"
    if not spark.services:
        return [(spark.host, "", activity, "", "", "", "", memory)]
    return [_row(spark.host, service, memory) for service in spark.services]


def _row(host: str, service: ServiceStatus, memory: str) -> tuple[str, ...]:
    gate = service.gate
    passed = f"ready {gate.ready_s} s, first answer {gate.first_s} s" if gate else "no record"
    what = f"{service.name} :{service.port}" if service.port else service.name
    since = _since(service.since)
    state = f"degraded: {service.degraded}" if service.degraded else service.state
    if service.stop:
        from sparkfleet.units import moment  # noqa: PLC0415

        reason = f": {service.stop.reason}" if service.stop.reason else ""
        since, state = moment(service.stop.at), f"stopped by {service.stop.operator}{reason}"
    what = f"{what} of {service.cluster}" if service.cluster else what
    return (host, what, state, since, service.generation[:12], service.unit, passed, memory)


def _since(started: str) -> str:
    """Return when a service was started: on a terminal how long ago, else the time."""
    time = started.partition(".")[0].removesuffix("Z")
    if time.startswith("0001-"):  # how Docker writes "never"
        return ""
    if not time or not terminal.is_terminal():
        return time
    from sparkfleet.units import age  # noqa: PLC0415

    return age((datetime.now(UTC) - datetime.fromisoformat(f"{time}+00:00")).total_seconds())
