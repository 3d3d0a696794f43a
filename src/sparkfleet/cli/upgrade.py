"""``sparkfleet upgrade``: bring the templates of this version into a fleet directory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkfleet.cli import output
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.errors import paragraph
from sparkfleet.exit_codes import Code

if TYPE_CHECKING:
    from sparkfleet.fleet_directory import Record
    from sparkfleet.template_upgrade import Change


@click.command()
@click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="[DIR]"
)
@click.option("--fleet", help="Name of the fleet. Default: the one that `init` wrote.")
@click.option("--dry", is_flag=True, help="Show the differences and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Files that you edited stay.")
@click.option(
    "--replace", multiple=True, metavar="FILE", help="Replace this file; your edits of it are lost."
)
@click.option(
    "--keep", multiple=True, metavar="FILE", help="Keep your edits of this file and accept its new template."
)
def upgrade(
    directory: Path,
    fleet: str | None,
    *,
    dry: bool,
    yes: bool,
    replace: tuple[str, ...],
    keep: tuple[str, ...],
) -> None:
    """Bring the templates of this version into a fleet directory, as a difference that you confirm.

    Templates are deploys, config.py, group_data/all.py, the CI workflow, .gitignore, README.md, the inventory
    and the JSON Schemas. Host files are never changed. A file that you edited is replaced only if you say so:
    .sparkfleet.json has the hash of each template that was written.

    Exit code: 0 the directory has the templates of this version, 1 an error, or an edited file has a newer
    template, 2 there are differences (with --dry), 3 declined.
    """
    from importlib.metadata import version  # noqa: PLC0415

    from sparkfleet import atomic_file, fleet_directory, template_upgrade  # noqa: PLC0415
    from sparkfleet.cli.init import schema_files  # noqa: PLC0415
    from sparkfleet.template_upgrade import Kind  # noqa: PLC0415

    installed = version("sparkfleet")
    record = template_upgrade.read_record(directory, installed)
    name = fleet or _fleet(directory, record)
    templates = fleet_directory.templates(name, installed, schema_files())
    changes = list(template_upgrade.changes(directory, record, templates))
    edited = [one.path for one in changes if one.kind is Kind.EDITED]
    for path in (*replace, *keep):
        if path not in edited:
            message = f"{path} is no file that you edited and whose template changed"
            raise click.UsageError(f"{message}; there is {', '.join(edited) or 'none'}.")
    for change in changes:
        _show(change)
    if dry:
        sys.exit(Code.CHANGES if changes else Code.OK)
    accepted = [one for one in changes if one.kind is not Kind.EDITED or one.path in replace]
    undecided = [one for one in changes if one.path in edited and one.path not in (*replace, *keep)]
    if changes and not yes:
        more = _ask(directory, accepted, undecided)
        accepted += more
        undecided = [one for one in undecided if one not in more]
    for change in accepted:
        file = directory / change.path
        if change.kind is Kind.REMOVE:
            file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_file.write(file, change.new)
    left = [one.path for one in undecided]
    after = template_upgrade.recorded_after(record, name, installed, templates, left)
    if after != record:
        atomic_file.write(directory / fleet_directory.RECORD, after.text)
    _report(directory, installed, accepted, left)


def _fleet(directory: Path, record: Record | None) -> str:
    """Return the fleet of the directory; raise SparkfleetError unless there is one."""
    found = sorted(
        path.stem for path in (directory / "inventories").glob("*.py") if not path.stem.startswith("_")
    )
    if record is not None:
        return record.fleet
    if len(found) == 1:
        return found[0]
    raise SparkfleetError(
        Diagnostic(
            str(directory / "inventories"),
            f"several inventories: {', '.join(found)}" if found else "there is no inventory",
            "a fleet directory, as `sparkfleet init` writes it",
            "name the fleet: --fleet NAME"
            if found
            else "sparkfleet upgrade DIR, or write one: sparkfleet init DIR",
            code="fleet-unknown",
        )
    )


def _show(change: Change) -> None:
    from sparkfleet.fleet_directory import SCHEMAS  # noqa: PLC0415

    click.echo(f"{change.path}: {change.kind.value}")
    if not change.path.startswith(f"{SCHEMAS}/"):  # thousands of generated lines
        output.difference(change.path, change.old, change.new)


def _ask(directory: Path, accepted: Sequence[Change], undecided: Sequence[Change]) -> list[Change]:
    """Ask whether to go on, and for each edited file whether to replace it; return those to replace."""
    if not accepted and not undecided:
        return []
    if not sys.stdin.isatty():
        raise SparkfleetError(
            Diagnostic(
                "sparkfleet upgrade",
                "no terminal for the confirmation prompt",
                "-y or a terminal",
                f"sparkfleet upgrade --dry {directory}, then sparkfleet upgrade -y {directory}",
                code="confirmation-required",
            )
        )
    if accepted and not click.confirm(f"Change {output.count(len(accepted), 'file')}?"):
        click.echo("cancelled: no file was changed", err=True)
        sys.exit(Code.DECLINED)
    question = "{} has your edits. Replace it and lose them?"
    return [one for one in undecided if click.confirm(question.format(one.path))]


def _report(directory: Path, version: str, accepted: Sequence[Change], left: Sequence[str]) -> None:
    for path in left:
        options = f"sparkfleet upgrade {directory} --keep {path}, or --replace {path} to lose your edits"
        diagnostic = Diagnostic(
            str(directory / path),
            "you edited this file, and its template changed",
            "your edits and the new template in one file",
            f"add what you need of the difference above, then {options}",
            code="template-edited",
        )
        click.echo(paragraph(diagnostic), err=True)
    done = (
        f"{output.count(len(accepted), 'file')} changed"
        if accepted
        else "nothing else to change"
        if left
        else "nothing to change"
    )
    click.echo(f"{directory}: sparkfleet {version}, {done}")
    if left:
        sys.exit(Code.ERROR)
