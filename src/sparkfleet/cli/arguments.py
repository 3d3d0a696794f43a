"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from sparkfleet.cli import completers
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError


def _existing(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    """Return the path of the file that pyinfra executes; raise ``SparkfleetError`` if there is none."""
    from sparkfleet.config import load  # noqa: PLC0415  (the help needs none of it)

    inventory = load.find(value).inventory
    if not inventory.is_file():
        raise SparkfleetError(
            Diagnostic(
                str(inventory),
                "the inventory file does not exist",
                "a file with: from sparkfleet.inventory import load; sparks = load(__file__)",
                "create the file, or run `sparkfleet init`",
                code="fleet-unknown",
            )
        )
    return inventory


INVENTORY = click.argument(
    "inventory", type=click.Path(path_type=Path), callback=_existing, shell_complete=completers.inventories
)
"""``inventories/FLEET.py`` of a command that connects; the directory beside it stands for it."""
FLEET = click.argument("inventory", type=click.Path(path_type=Path), shell_complete=completers.inventories)
"""``inventories/FLEET.py`` or the directory beside it, of a command that does not connect."""
LIMIT = click.option(
    "--limit",
    multiple=True,
    metavar="HOST",
    help="Only these hosts (name or pattern); may be repeated.",
    shell_complete=completers.hosts,
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
