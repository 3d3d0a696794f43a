"""``sparkfleet rules``: the lint rules."""

from __future__ import annotations

import click

from sparkfleet.cli import arguments, output


@click.command()
@arguments.JSON
def rules(as_json: bool) -> None:
    """List the lint rules: id, title, source, and what enforces each of them.

    `ignore_rules: {ID: reason}` in a host file or in group_data disables a rule for `check`.
    """
    from sparkfleet import engines  # noqa: PLC0415

    known_engines = [engines.get(name) for name in engines.names()]
    every_rule = (rule for engine in known_engines for rule in engine.rules())
    rows = [(rule.id, rule.title, rule.source, rule.kept_by) for rule in every_rule]
    rows.sort()
    if as_json:
        names = ("id", "title", "source", "kept_by")
        output.as_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        output.table(("id", "rule", "source", "enforced by"), rows)
        click.echo("sources (a number is a section):", err=True)
        for name, title in sorted(pair for engine in known_engines for pair in engine.rule_sources.items()):
            click.echo(f"  {name}: {title}", err=True)
