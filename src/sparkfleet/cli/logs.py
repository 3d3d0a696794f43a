"""``sparkfleet logs``: the log of an engine, of its supervisor, or of the last rollout."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet.cli import arguments
from sparkfleet.cli.arguments import Target
from sparkfleet.contract.logs import ENGINE, MAX_LINES, SOURCES
from sparkfleet.exit_codes import Code

if TYPE_CHECKING:
    from sparkfleet.contract.logs import LogLine

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TAIL = 200


class Age(click.ParamType[float]):
    """A duration: ``90s``, ``10m``, ``2h``, ``1d``."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        found = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration: expected a number and s, m, h or d, as 10m", param, ctx)
        return float(int(found[1]) * UNITS_S[found[2]])


class Pattern(click.ParamType[re.Pattern[str]]):
    """A regular expression."""

    name = "regex"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> re.Pattern[str]:
        """Return the compiled expression."""
        try:
            return re.compile(str(value))
        except re.error as error:
            self.fail(f"{value!r} is no regular expression: {error}", param, ctx)


@click.command()
@arguments.INVENTORY
@arguments.TARGET
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines until Ctrl-C.")
@click.option(
    "--since", type=Age(), metavar="DURATION", help="Only lines of the last DURATION, as 10m or 2h."
)
@click.option(
    "--grep", type=Pattern(), metavar="REGEX", help="Only lines that match this regular expression."
)
@click.option(
    "--source", type=click.Choice(SOURCES), default=ENGINE, show_default=True, help="The engine's log, its "
    "supervisor's on the Spark, or the events of the last rollout.",
)  # fmt: skip
@click.option(
    "-n", "--tail", type=click.IntRange(1, MAX_LINES), metavar="N",
    help=f"Only the last N lines (default {TAIL}; with --since or --grep {MAX_LINES} are read).",
)  # fmt: skip
def logs(  # noqa: PLR0917  (click passes them by name)
    inventory: Path,
    target: Target,
    follow: bool,
    since: float | None,
    grep: re.Pattern[str] | None,
    source: str,
    tail: int | None,
) -> None:
    """Print the log of a service, over the connection that a plan uses. Secrets are masked on the Spark.

    SERVICE may be omitted where a Spark has one alone.

    Exit code: 0 printed, 1 the host is unreachable or has no such log.
    """
    from sparkfleet.fleet.connection import pyinfra_patches  # noqa: PLC0415

    pyinfra_patches.before_connections()
    from sparkfleet.fleet import log_stream, queries  # noqa: PLC0415

    read = tail or (MAX_LINES if since or grep else TAIL)
    query = log_stream.Query(source, target.service, read, since or 0.0, follow)

    def show(line: LogLine) -> None:
        if grep is None or grep.search(line.text):
            click.echo(line_text(line))

    def report(text: str) -> None:
        click.echo(text, err=True)

    queries.on_one(inventory, target.host, lambda host: log_stream.print_log(host, query, show, report))
    sys.exit(Code.OK)


def line_text(line: LogLine) -> str:
    """Return a line with its time, if the line itself has none."""
    if not line.at:
        return line.text
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(line.at))}  {line.text}"
