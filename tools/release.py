"""Notes and wheels of a release: ``release.py notes v1.2.3`` and ``release.py wheels DIR``."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click

REPO = Path(__file__).parents[1]
PROJECTS = (".", "./lab")


@click.group()
def release() -> None:
    """Notes and wheels of a release."""


@release.command()
@click.argument("tag")
def notes(tag: str) -> None:
    """Print the part of CHANGELOG.md about a tag, which must be the version of each package."""
    click.echo(notes_of(tag, REPO))


@release.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def wheels(directory: Path) -> None:
    """Build the wheels of sparkfleet and of its lab."""
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory))
    subprocess.run([sys.executable, "-m", "pip", *build, *PROJECTS], cwd=REPO, check=True)


def notes_of(tag: str, root: Path) -> str:
    """Return what the changelog says about the version of a tag.

    Raise click.ClickException if a package has another version, or the changelog has no such release.
    """
    for project in PROJECTS:
        path = root / project / "pyproject.toml"
        version = tomllib.loads(path.read_text())["project"]["version"]
        if tag != f"v{version}":
            raise click.ClickException(f"{path}: version: found {version}, expected {tag.removeprefix('v')}")
    path = root / "CHANGELOG.md"
    parts = re.split(r"^## (.+)\n", path.read_text(), flags=re.MULTILINE)
    released = dict(zip(parts[1::2], parts[2::2], strict=True))
    for title, text in released.items():
        if re.fullmatch(rf"{re.escape(tag[1:])} \(\d{{4}}-\d\d-\d\d\)", title):
            return text.strip()
    raise click.ClickException(
        f"{path}: expected a heading '## {tag[1:]} (YYYY-MM-DD)', found {', '.join(released)}"
    )


if __name__ == "__main__":
    release()
