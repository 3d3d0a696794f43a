"""``sparkfleet knowledge``: newer data files than the bundled ones, without a new sparkfleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sparkfleet.cli import output
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

if TYPE_CHECKING:
    from sparkfleet.knowledge.store import StoredUpdate


@click.group()
def knowledge() -> None:
    """Update what sparkfleet knows: flags of engine releases, failure patterns, rules' data and recipes.

    Data alone, never code. `check`, `plan` and `diagnose` use an update instead of the bundled knowledge.
    """


@knowledge.command()
@click.argument("source")
@click.option(
    "--sha256", metavar="HASH", default="", help="The SHA-256 that was published with the update (required)."
)
def update(source: str, sha256: str) -> None:
    """Check and use the knowledge in SOURCE: a directory, a .tar.gz or .zip, or the URL of one.

    For a directory, HASH is the SHA-256 of its `knowledge.json`. An update that is damaged, not newer, or
    made for another sparkfleet is refused; what is in use stays.
    """
    from sparkfleet.knowledge import archive, store, validation  # noqa: PLC0415

    if not sha256:
        raise SparkfleetError(
            Diagnostic(
                source,
                "the update is not pinned",
                "--sha256 with the SHA-256 that was published with it",
                f"sparkfleet knowledge update {source} --sha256 HASH",
                code="knowledge-hash-required",
            )
        )
    new_update = archive.load(source, sha256)
    store.require_newer(new_update)
    validation.require_valid(new_update)
    if store.install(new_update):
        click.echo(f"knowledge {new_update.version}: in use ({output.count(len(new_update.files), 'file')})")
    else:
        click.echo(f"knowledge {new_update.version}: in use already")


@knowledge.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """Show which knowledge is used, and the updates that are stored."""
    from sparkfleet import data_files  # noqa: PLC0415
    from sparkfleet.knowledge import store  # noqa: PLC0415

    used, updates = store.active_update(), store.stored_updates()
    bundled = {"version": data_files.BUNDLED, "source": "bundled", "in_use": used is None}
    rows = [{**bundled, "files": None, "directory": ""}, *(_row(one, used) for one in updates)]
    if as_json:
        output.as_json(rows)
        return
    output.table(
        ("version", "source", "in use", "files", "directory"),
        [
            (
                row["version"],
                row["source"],
                "yes" if row["in_use"] else "",
                "" if row["files"] is None else str(row["files"]),
                row["directory"],
            )
            for row in rows
        ],
    )


@knowledge.command()
def reset() -> None:
    """Use the bundled knowledge again. Stored updates stay; `update` with their directory uses them again."""
    from sparkfleet import data_files  # noqa: PLC0415
    from sparkfleet.knowledge import store  # noqa: PLC0415

    changed = store.reset()
    click.echo(f"knowledge {data_files.BUNDLED}: in use{'' if changed else ' already'} (bundled)")


def _row(one: StoredUpdate, used: StoredUpdate | None) -> dict[str, Any]:
    return {
        "version": one.version,
        "source": "update",
        "in_use": used is not None and one.directory == used.directory,
        "files": len(one.manifest.files),
        "directory": str(one.directory),
    }
