"""Tables for people on a terminal, tab-separated lines when piped, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from sparkfleet import terminal
from sparkfleet.errors import with_inventory


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: a table of the terminal's width; piped, headings and rows are lines with tabs."""
    named = [[with_inventory(cell.replace("\n", " ")) for cell in row] for row in (headings, *rows)]
    if terminal.is_terminal():
        terminal.echo_table(named[0], named[1:])
        return
    for row in named:
        click.echo("\t".join(row))


def difference(path: str, old: str, new: str) -> None:
    """Print a unified diff of a file; "" is a file that does not exist."""
    import difflib  # noqa: PLC0415  (2 ms)

    from sparkfleet.terminal import colour_setting  # noqa: PLC0415

    colours = {"+": "green", "-": "red", "@": "cyan"}
    names = (path if old else "/dev/null", path if new else "/dev/null")
    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm=""):
        heading = line.startswith(("--- ", "+++ "))
        styled = click.style(line, bold=True) if heading else click.style(line, fg=colours.get(line[0]))
        click.echo(styled, color=colour_setting())


def as_json(data: Any) -> None:
    """Print data for programs."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False))


def count(number: int, noun: str) -> str:
    """Return ``1 error``, ``2 errors``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size(bytes_: float) -> str:
    """Return a number of bytes in GiB or MiB."""
    if bytes_ >= 1 << 30:
        return f"{bytes_ / (1 << 30):.1f} GiB"
    return f"{bytes_ / (1 << 20):.1f} MiB"
