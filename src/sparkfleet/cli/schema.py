"""``sparkfleet schema``: JSON Schema for editors that complete and validate YAML."""

from __future__ import annotations

import click

from sparkfleet.cli import output


@click.command()
@click.argument("kind", type=click.Choice(["host", "cluster", "recipe", "group-data"]), default="host")
def schema(kind: str) -> None:
    """Print the JSON Schema of host files, cluster files, recipes, or `sparkfleet = {...}` in group_data."""
    from sparkfleet.config.json_schema import schema as schema_of  # noqa: PLC0415

    output.as_json(schema_of(kind))
