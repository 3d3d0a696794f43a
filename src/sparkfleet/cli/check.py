"""``sparkfleet check``: everything that can be known of a fleet without asking anybody."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet.cli import output
from sparkfleet.errors import Problem, SparkfleetError

if TYPE_CHECKING:
    from sparkfleet.cli.checking import Note
    from sparkfleet.spec.resolved import Fleet


@click.command()
@click.argument("inventory", type=click.Path(path_type=Path))
@click.option("--all", "show_all", is_flag=True, help="Also remarks: worth knowing, nothing to mend.")
@click.option("--json", "as_json", is_flag=True, help="All findings as JSON on stdout.")
def check(inventory: Path, show_all: bool, as_json: bool) -> None:
    """Validate a fleet's files, its flags against the vLLM of each image, and what is known of Sparks.

    Offline; touches nothing. `sparkfleet rules` lists what is known; `allow: {ID: reason}` silences a rule.

    Exit code: 0 no errors (warnings are listed), 1 errors.
    """
    from sparkfleet.cli.checking import notes  # noqa: PLC0415

    fleet, problems = _load(inventory)
    found = notes(fleet, pinned=not problems) if fleet else []
    failed = bool(problems) or any(note.level == "error" for note in found)
    if as_json:
        output.as_json(
            {
                "problems": [dataclasses.asdict(problem) for problem in problems],
                "findings": [dataclasses.asdict(note) for note in found],
            }
        )
    else:
        shown = [note for note in found if show_all or note.level != "info"]
        for item in (*problems, *shown):
            click.echo(str(item), err=True)
        click.echo(_summary(inventory, fleet, problems, found))
    sys.exit(1 if failed else 0)


def _load(inventory: Path) -> tuple[Fleet | None, tuple[Problem, ...]]:
    from sparkfleet.inventory import load_fleet  # noqa: PLC0415

    try:
        return load_fleet(inventory), ()
    except SparkfleetError as error:
        problems = error.problems
    try:
        # Missing pins hide no other mistake: the flags can be checked by the image's name.
        return load_fleet(inventory, need_lock=False), problems
    except SparkfleetError:
        return None, problems


def _summary(inventory: Path, fleet: Fleet | None, problems: tuple[Problem, ...], found: list[Note]) -> str:
    errors = len(problems) + sum(note.level == "error" for note in found)
    warnings = sum(note.level == "warning" for note in found)
    remarks = sum(note.level == "info" for note in found)
    verdict = output.count(errors, "error") if errors else "no errors"
    verdict += f", {output.count(warnings, 'warning')}"
    verdict += f", {output.count(remarks, 'remark')} (--all shows them)" if remarks else ""
    if fleet is None:
        return f"{inventory}: {verdict}"
    sparks = output.count(len(fleet.hosts), "Spark")
    members = [host.member for host in fleet.hosts if host.member]
    served = sum(len(host.services) for host in fleet.hosts)
    served -= sum(bool(member.service and member.rank) for member in members)  # one service of many Sparks
    services = output.count(served, "service")
    joined = f", {output.count(sum(not one.rank for one in members), 'cluster')}" if members else ""
    return f"{inventory}: {sparks}{joined}, {services}: {verdict}"
