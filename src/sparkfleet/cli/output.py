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
