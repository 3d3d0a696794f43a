"""Arguments that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from sparkfleet.cli import completers
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.errors import name_inventory


def _existing(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    """Return the path of the file that pyinfra executes; raise ``SparkfleetError`` if there is none."""
    from sparkfleet.config import load  # noqa: PLC0415  (the help needs none of it)

    inventory = load.fleet_paths(value).inventory
    if not inventory.is_file():
        from sparkfleet.inventory import inventory_missing  # noqa: PLC0415

        raise SparkfleetError(inventory_missing(inventory))
    name_inventory(str(inventory))
    return inventory


def _named(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    name_inventory(str(value))
    return value


INVENTORY = click.argument(
    "inventory", type=click.Path(path_type=Path), callback=_existing, shell_complete=completers.inventories
)
"""``inventories/FLEET.py`` of a command that connects; the directory beside it stands for it."""
FLEET = click.argument(
    "inventory", type=click.Path(path_type=Path), callback=_named, shell_complete=completers.inventories
)
"""``inventories/FLEET.py`` or the directory beside it, of a command that does not connect."""
LIMIT = click.option(
    "--limit",
    multiple=True,
    metavar="HOST",
    help="Only these hosts (name or pattern); may be repeated.",
    shell_complete=completers.hosts,
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True)
class Target:
    """One Spark, or one service of it."""

    host: str
    service: str = ""


def _target(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Target | None:
    if value is None:
        return None
    host, slash, service = value.partition("/")
    if not host or (slash and not service) or set(value) & set("*?["):
        raise click.BadParameter(f"{value!r}: expected HOST or HOST/SERVICE, by their names")
    return Target(host, service)


OPTIONAL_TARGET = click.argument(
    "target",
    metavar="[HOST[/SERVICE]]",
    required=False,
    callback=_target,
    shell_complete=completers.hosts,
)
TARGET = click.argument("target", metavar="HOST[/SERVICE]", callback=_target, shell_complete=completers.hosts)
"""One Spark, or a service of it."""
