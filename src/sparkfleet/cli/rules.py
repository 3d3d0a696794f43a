"""``sparkfleet rules``: the lint rules."""

from __future__ import annotations

import click

from sparkfleet.cli import output


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rules(as_json: bool) -> None:
    """List the lint rules: id, title, source, and what enforces each of them.

    `ignore_rules: {ID: reason}` in a host file or in group_data disables a rule for `check`.
    """
    from sparkfleet import engines  # noqa: PLC0415

    found = (rule for name in engines.names() for rule in engines.get(name).rules())
    rows = [(rule.id, rule.title, rule.source, rule.kept_by) for rule in found]
    rows.sort()
    if as_json:
        names = ("id", "title", "source", "kept_by")
        output.as_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        output.table(("id", "rule", "source", "enforced by"), rows)
