"""``sparkfleet history``: which run changed what on each Spark, and the generations that it keeps."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparkfleet import terminal
from sparkfleet.cli import arguments, completers, output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkfleet.contract.generation import PromotedGeneration
    from sparkfleet.contract.history import HistoryEntry
    from sparkfleet.fleet.history import HostHistory
    from sparkfleet.plan.rollback import KeptService


@click.command()
@arguments.INVENTORY
@click.argument("host", required=False, shell_complete=completers.hosts)
@click.option(
    "-n", "--last", type=click.IntRange(1), default=20, show_default=True, metavar="N",
    help="Only the last N changes of each Spark.",
)  # fmt: skip
@arguments.JSON
def history(inventory: Path, host: str | None, last: int, as_json: bool) -> None:
    """Show who changed which service when, from which commit, and how it ended; then the kept generations.

    Each Spark keeps its own history, so it has the changes of all operators.

    Exit code: 0 shown, 1 a host is unreachable, or a part of its history cannot be read.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet.history import fleet_history  # noqa: PLC0415

    found = fleet_history(inventory, (host,) if host else ())
    if as_json:
        output.as_json({"schema": 1, "hosts": [_data(one, last) for one in found]})
    else:
        _show(found, last)
    sys.exit(any(one.unknown or one.stored.unreadable for one in found))


def _show(found: list[HostHistory], last: int) -> None:
    changes = [_change_row(one.host, entry) for one in found for entry in one.stored.entries[-last:]]
    headings = ("Spark", "When", "Service", "Change", "By", "Commit", "Took", "Without service", "Result")
    output.table(headings, changes)
    click.echo()
    rows = [row for one in found for row in _generation_rows(one)]
    output.table(("Spark", "Service", "Generation", "Since", "Model", "Image", "Rollout", "State"), rows)
    for host in found:
        for diagnostic in (host.unknown, *host.stored.unreadable):
            if diagnostic:
                terminal.echo_diagnostic(diagnostic)


def _change_row(host: str, entry: HistoryEntry) -> tuple[str, ...]:
    from sparkfleet.units import duration  # noqa: PLC0415

    context = entry.context
    commit = f"{context.commit[:8]}{'+' if context.dirty else ''}"
    took, down = (duration(one) if one else "" for one in (entry.duration_s, entry.downtime_s))
    return (
        *(
            host,
            moment(entry.at),
            entry.service,
            f"{context.command} {entry.outcome}".strip(),
            entry.operator,
        ),
        *(commit, took, down, entry.text),
    )


def _generation_rows(host: HostHistory) -> Iterator[tuple[str, ...]]:
    from sparkfleet.plan import service_changes  # noqa: PLC0415

    for service in host.stored.services.values():
        current = service.current.id if service.current else ""
        previous = {one.id for one in service.previous}
        for one in reversed(service.known):
            state = "serves" if one.id == current else "previous" if one.id in previous else "kept"
            image = service_changes.image_name(one.image)
            yield (
                host.host,
                service.name,
                one.id,
                moment(one.promoted_at),
                one.model,
                image,
                one.rollout,
                state,
            )


def moment(at: float) -> str:
    """Return a unix time as local time; "" for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""


def _data(host: HostHistory, last: int) -> dict[str, Any]:
    return {
        "host": host.host,
        "changes": [one.to_json() for one in host.stored.entries[-last:]],
        "generations": {
            name: [_generation(one, service) for one in service.known]
            for name, service in host.stored.services.items()
        },
        "unknown": dataclasses.asdict(host.unknown) if host.unknown else None,
        "unreadable": [dataclasses.asdict(one) for one in host.stored.unreadable],
    }


def _generation(one: PromotedGeneration, service: KeptService) -> dict[str, Any]:
    names = ("id", "promoted_at", "model", "revision", "image", "rollout", "operator")
    serves = bool(service.current and one.id == service.current.id)
    return {**{name: getattr(one, name) for name in names}, "serves": serves}
