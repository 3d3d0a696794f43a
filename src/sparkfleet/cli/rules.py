"""``sparkfleet rules``: what is known of Spark and vLLM beyond single flags."""

from __future__ import annotations

import click

from sparkfleet.cli import output


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def rules(as_json: bool) -> None:
    """List the rules: id, what each asks for, where it is known from, and who keeps it.

    `ignore_rules: {ID: reason}` in a host file or in group_data silences a rule of `check`.
    """
    from sparkfleet.engines.vllm.rules import ELSEWHERE, RULES  # noqa: PLC0415

    rows = [(rule.id, rule.title, rule.source, "check") for rule in RULES]
    rows += [(name, title, "", keeper) for name, (title, keeper) in ELSEWHERE.items()]
    rows.sort()
    if as_json:
        names = ("id", "title", "source", "kept_by")
        output.as_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        output.table(("id", "rule", "source", "kept by"), rows)
