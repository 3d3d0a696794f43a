"""``sparkfleet lock``: pin every image and model of a fleet."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparkfleet import terminal
from sparkfleet.cli import arguments, output
from sparkfleet.contract.diagnostic import Severity, SparkfleetError
from sparkfleet.exit_codes import Code

if TYPE_CHECKING:
    from sparkfleet.desired_state import Fleet
    from sparkfleet.lock.resolve import Change, Entry, LockResult


@click.command()
@arguments.FLEET
@click.option(
    "--update",
    multiple=True,
    metavar="NAME",
    help="Resolve this image, model, recipe or service again ('*': everything); may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def lock(inventory: Path, update: tuple[str, ...], as_json: bool) -> None:
    """Write fleet.lock: a digest for each image tag, a commit and file hashes for each model, wheels with
    hashes for Python packages that an image lacks.

    Existing entries are kept unless --update names them. Entries that the fleet no longer uses are removed.
    An entry that cannot be resolved is reported; the others are still locked. Errors of the fleet's files
    that concern no image, model or package are shown and do not prevent it; `check` and `plan` refuse them.

    Exit code: 0 everything is pinned, 1 an entry could not be resolved.
    """
    from sparkfleet.config import load, secret, yaml_file  # noqa: PLC0415
    from sparkfleet.inventory import Pins, read_fleet  # noqa: PLC0415
    from sparkfleet.lock import lockfile, resolve  # noqa: PLC0415
    from sparkfleet.lock.hub import Hub  # noqa: PLC0415
    from sparkfleet.lock.registry import Registry  # noqa: PLC0415

    places = load.fleet_paths(inventory)
    loaded = read_fleet(inventory, pins=Pins.IGNORED)
    if any(one.code not in resolve.WITHOUT_PINS for one in loaded.diagnostics):
        raise SparkfleetError(*loaded.diagnostics)
    for diagnostic in loaded.diagnostics:
        terminal.echo_diagnostic(dataclasses.replace(diagnostic, severity=Severity.WARNING))
    fleet = loaded.fleet
    hub = Hub(fleet.hf_endpoint, secret.read(fleet.hf_token))
    mirrors = {mirror.registry: mirror for mirror in fleet.mirrors}
    old = lockfile.read(places.lock)
    outcome = resolve.lock(fleet, old, hub, lambda: Registry(mirrors), update)
    if outcome.changes:
        lockfile.write(places.lock, outcome.lock)
    if as_json:
        output.as_json(_data(outcome, fleet))
    else:
        _print_changes(outcome, fleet)
        for diagnostic in outcome.diagnostics:
            terminal.echo_diagnostic(diagnostic)
        click.echo(_summary(outcome, yaml_file.shown(places.lock)))
    sys.exit(Code.ERROR if outcome.diagnostics else Code.OK)


def _print_changes(outcome: LockResult, fleet: Fleet) -> None:
    for change in outcome.changes:
        click.echo(_line(change))
        for note in notes(change, fleet, outcome.changes):
            click.echo(f"    {note}")


def _summary(outcome: LockResult, path: str) -> str:
    entries = len(outcome.lock.images) + len(outcome.lock.models) + len(outcome.lock.packages)
    failed = sum(one.code != "lock-update-unknown" for one in outcome.diagnostics)
    unpinned = f", {failed} not resolved" if failed else ""
    changed = output.count(len(outcome.changes), "change") if outcome.changes else "no changes"
    return f"{path}: {entries} pinned, {changed}{unpinned}"


def _line(change: Change) -> str:
    if change.old is None and change.new is not None:
        return f"+ {change.key}  {_text(change.new)}"
    if change.new is None and change.old is not None:
        return f"- {change.key}  {_text(change.old)} (no longer used)"
    return f"~ {change.key}  {_text(change.old)} → {_text(change.new)}"


def _text(entry: Entry | None) -> str:
    from sparkfleet.config.lock_data import LockedImage, LockedPackages  # noqa: PLC0415

    if entry is None:
        return ""
    if isinstance(entry, LockedImage):
        version = f"engine {entry.image.engine_version}, " if entry.image.engine_version else ""
        return f"{entry.image.digest[:19]} ({version}{output.size(entry.image.size)})"
    if isinstance(entry, LockedPackages):
        packages = entry.derived_packages
        return f"{', '.join(packages.added)} ({len(packages.wheels)} wheels, {output.size(packages.size)})"
    weights = entry.weights
    return f"{weights.revision[:12]} ({len(weights.files)} files, {output.size(weights.size)})"


def notes(change: Change, fleet: Fleet, changes: tuple[Change, ...]) -> list[str]:
    """Return what a changed image means for the services that use it."""
    from sparkfleet import engines  # noqa: PLC0415
    from sparkfleet.config.lock_data import LockedImage, image_key  # noqa: PLC0415

    new = change.new
    if not isinstance(new, LockedImage):
        return []
    gone = [entry.old for entry in changes if entry.new is None and isinstance(entry.old, LockedImage)]
    same = [entry for entry in gone if entry.image.repository == new.image.repository]
    old = change.old or (same[0] if len(same) == 1 else None)
    if not isinstance(old, LockedImage):
        return []
    services = [service for host in fleet.hosts for service in host.services]
    users = [service for service in services if service.image and image_key(service.image) == change.key]
    lines: list[str] = []
    for name in dict.fromkeys(service.engine for service in users):
        engine = engines.get(name)
        own = [service for service in users if service.engine == name]
        effects = engine.upgrade_notes(old.image, new.image, own)
        if effects is None:
            unknown = f"its {engine.title} version is unknown, so changes of flags"
            effects = [f"{unknown} and variables cannot be listed"]
        lines += effects
    return lines


def _data(outcome: LockResult, fleet: Fleet) -> dict[str, Any]:
    return {
        "changes": [
            {
                "key": change.key,
                "old": _plain(change.old),
                "new": _plain(change.new),
                "notes": notes(change, fleet, outcome.changes),
            }
            for change in outcome.changes
        ],
        "diagnostics": [dataclasses.asdict(diagnostic) for diagnostic in outcome.diagnostics],
    }


def _plain(entry: Entry | None) -> dict[str, Any] | None:
    return dataclasses.asdict(entry) if entry else None
