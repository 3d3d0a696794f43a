"""``sparkfleet check``: validation and lint of a fleet, offline."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet import data_files, terminal
from sparkfleet.cli import arguments, output
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.exit_codes import Code

if TYPE_CHECKING:
    from sparkfleet.desired_state import Fleet


@click.command()
@arguments.FLEET
@click.option("--all", "show_all", is_flag=True, help="Include info findings.")
@click.option("--json", "as_json", is_flag=True, help="Print all diagnostics as JSON.")
def check(inventory: Path, show_all: bool, as_json: bool) -> None:
    """Validate a fleet's files, check its flags against the engine of each image, and apply the lint rules.

    Works offline and changes nothing. `sparkfleet rules` lists the rules; `ignore_rules: {ID: reason}` in a
    host file or in group_data silences one.

    Exit code: 0 no errors (there may be warnings), 1 errors.
    """
    from sparkfleet.cli.check_report import diagnostics as findings_of  # noqa: PLC0415
    from sparkfleet.inventory import read_fleet  # noqa: PLC0415

    try:
        loaded = read_fleet(inventory)
    except SparkfleetError as error:
        fleet, diagnostics, findings = None, error.diagnostics, []
    else:
        fleet, diagnostics, findings = loaded.fleet, loaded.diagnostics, findings_of(loaded)
    failed = bool(diagnostics) or any(note.severity == "error" for note in findings)
    if as_json:
        every = [one for diagnostic in (*diagnostics, *findings) for one in diagnostic.each]
        output.as_json({"diagnostics": [dataclasses.asdict(one) for one in every]})
    else:
        shown = [note for note in findings if show_all or note.severity != "info"]
        for item in (*diagnostics, *shown):
            terminal.echo_diagnostic(item)
        if version := data_files.update_version():
            click.echo(f"knowledge {version}, not the bundled one (sparkfleet knowledge show)")
        click.echo(_summary(inventory, fleet, diagnostics, findings, show_all=show_all))
    sys.exit(Code.ERROR if failed else Code.OK)


def _summary(
    inventory: Path,
    fleet: Fleet | None,
    diagnostics: tuple[Diagnostic, ...],
    findings: list[Diagnostic],
    *,
    show_all: bool,
) -> str:
    errors = len(diagnostics) + sum(note.severity == "error" for note in findings)
    warnings = sum(note.severity == "warning" for note in findings)
    remarks = sum(note.severity == "info" for note in findings)
    verdict = output.count(errors, "error") if errors else "no errors"
    verdict += f", {output.count(warnings, 'warning')}"
    verdict += f", {output.count(remarks, 'info finding')}" if remarks else ""
    verdict += " (see --all)" if remarks and not show_all else ""
    if fleet is None or (diagnostics and not any(host.services for host in fleet.hosts)):
        return f"{inventory}: {verdict}"
    sparks = output.count(len(fleet.hosts), "Spark")
    members = [host.member for host in fleet.hosts if host.member]
    served = sum(len(host.services) for host in fleet.hosts)
    served -= sum(bool(member.service and member.rank) for member in members)  # one service of many Sparks
    services = output.count(served, "service")
    joined = f", {output.count(sum(not one.rank for one in members), 'cluster')}" if members else ""
    return f"{inventory}: {sparks}{joined}, {services}: {verdict}"
