"""``sparkfleet mirror``: images and models of a fleet in a directory, for a site without Internet."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from sparkfleet import terminal
from sparkfleet.cli import arguments, output
from sparkfleet.exit_codes import Code


@click.command()
@arguments.INVENTORY
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def mirror(inventory: Path, directory: Path) -> None:
    """Download the images, models and Python packages of fleet.lock, and the file itself, into DIRECTORY.

    Every file is verified by its hash. Existing files are not downloaded again: run the command again after
    an interruption or a new lock. To use the mirror, set `stage: {mirror: DIRECTORY}` in group_data.

    Exit code: 0 the mirror is complete, 1 a download failed.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from sparkfleet.config import load, secret  # noqa: PLC0415
    from sparkfleet.inventory import load_fleet  # noqa: PLC0415
    from sparkfleet.lock import lockfile  # noqa: PLC0415
    from sparkfleet.lock.registry import Registry  # noqa: PLC0415
    from sparkfleet.offline import mirror as mirrors  # noqa: PLC0415

    places = load.fleet_paths(inventory)
    fleet = load_fleet(inventory)
    content = mirrors.content(fleet, lockfile.read(places.lock))
    registry = Registry({mirror.registry: mirror for mirror in fleet.mirrors})
    source = mirrors.Source(registry, fleet.hf_endpoint, secret.read(fleet.hf_token))
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(places.lock, directory / "fleet.lock")
    try:
        diagnostics = list(mirrors.write(directory, content, source, lambda text: click.echo(text, err=True)))
    finally:
        registry.close()
    for diagnostic in diagnostics:
        terminal.echo_diagnostic(diagnostic)
    images, models = output.count(len(content.images), "image"), output.count(len(content.models), "model")
    packages = f", {output.count(len(content.wheels), 'wheel')}" if content.wheels else ""
    left = f"; {len(diagnostics)} missing" if diagnostics else ""
    click.echo(f"{directory}: {images}, {models}{packages}{left}")
    sys.exit(Code.ERROR if diagnostics else Code.OK)
