"""``sparkfleet add-host`` and ``add-service``: edits of host files, checked before they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparkfleet.cli import arguments, completers, output
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

if TYPE_CHECKING:
    from sparkfleet.config.load import FleetPaths


@click.command("add-host")
@arguments.FLEET
@click.argument("name")
@click.argument("address", required=False, metavar="[[USER@]ADDRESS[:PORT]]")
@click.option("--recipe", metavar="NAME", help="Serve this recipe. Default: nothing yet.")
def add_host(inventory: Path, name: str, address: str | None, recipe: str | None) -> None:
    """Add a Spark to a fleet: write inventories/FLEET/NAME.yaml.

    Without ADDRESS, SSH finds the Spark by its name. The file is shown, and written only if the fleet is
    valid with it. No host is contacted.

    Exit code: 0 the file is written, 1 an error; nothing was written.
    """
    from dataclasses import replace  # noqa: PLC0415

    from sparkfleet.cli.init import parse_hosts  # noqa: PLC0415
    from sparkfleet.config import load  # noqa: PLC0415
    from sparkfleet.config.yaml_file import shown  # noqa: PLC0415
    from sparkfleet.fleet_directory import SCHEMAS  # noqa: PLC0415

    if inventory.is_file():
        inventory.with_suffix("").mkdir(exist_ok=True)  # `init` without Sparks wrote none
    places = load.fleet_paths(inventory)
    (host,) = parse_hosts([f"{name}={address or name}"], option="")
    path = places.directory / f"{name}.yaml"
    if path.exists():
        hint = f"edit the file, or: sparkfleet add-service {inventory} {name} RECIPE"
        raise SparkfleetError(
            Diagnostic(shown(path), "the host file exists", "a new name", hint, code="file-exists")
        )
    text = replace(host, recipe=recipe or "").file
    if not (places.directory.parents[1] / SCHEMAS).is_dir():
        _, _, text = text.partition("\n")  # the line that names the schema
    _write(places, path, "", text)
    click.echo(f"\nnext: sparkfleet status {inventory} --preflight --limit {name}")


@click.command("add-service")
@arguments.INVENTORY
@click.argument("host", shell_complete=completers.hosts)
@click.argument("recipe", shell_complete=completers.recipes)
@click.option("--name", help="Name of the service. Default: the recipe's.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the API. Default: the next free one.")
def add_service(inventory: Path, host: str, recipe: str, name: str | None, port: int | None) -> None:
    """Add a service to the host file of a Spark.

    Every other line of the file stays as it is. The difference is shown, and written only if the fleet is
    valid with it. No host is contacted.

    Exit code: 0 the file is changed, 1 an error; nothing was written.
    """
    from sparkfleet.catalog.load import Catalog  # noqa: PLC0415
    from sparkfleet.config import host_file_edit, load  # noqa: PLC0415
    from sparkfleet.config.yaml_file import shown  # noqa: PLC0415
    from sparkfleet.inventory import unknown_hosts  # noqa: PLC0415

    places = load.fleet_paths(inventory)
    path = places.directory / f"{host}.yaml"
    if not path.is_file():
        names = [one.stem for one in load.host_files(places)]
        hint = f"sparkfleet add-host {inventory} {host}"
        raise SparkfleetError(
            *unknown_hosts({"HOST": [host]}, names),
            *([] if names else [Diagnostic(f"HOST {host}", "no such host", hint=hint, code="host-unknown")]),
        )
    Catalog.of(places.recipes).recipe(recipe)  # raises for an unknown name, with the nearest one
    service: dict[str, Any] = {"recipe": recipe, "name": name, "port": port}
    service = {key: value for key, value in service.items() if value is not None}
    old = path.read_text(encoding="utf-8", errors="surrogateescape")
    _write(places, path, old, host_file_edit.add_service(old, shown(path), service))
    click.echo(f"\nnext: sparkfleet lock {inventory}, then sparkfleet plan {inventory}")


def _write(places: FleetPaths, path: Path, old: str, new: str) -> None:
    """Show the difference and write the file; raise SparkfleetError instead if the fleet would be invalid."""
    from sparkfleet import atomic_file  # noqa: PLC0415
    from sparkfleet.config.yaml_file import shown, unsaved  # noqa: PLC0415
    from sparkfleet.inventory import Pins, read_fleet  # noqa: PLC0415

    before = {*read_fleet(places.directory, pins=Pins.IGNORED).diagnostics}
    file = shown(path)
    if old and (own := [one for one in before if one.place[0] == file]):
        raise SparkfleetError(*sorted(own, key=lambda one: one.place))  # at the lines of the present file
    output.difference(file, old, new)
    with unsaved(path, new):
        found = read_fleet(places.directory, pins=Pins.IGNORED).diagnostics
    if errors := [one for one in found if one not in before]:
        raise SparkfleetError(*errors)
    atomic_file.write(path, new)
