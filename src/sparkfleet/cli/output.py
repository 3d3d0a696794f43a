"""Tables for people on a terminal, tab-separated lines when piped, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: a rich table on a terminal, else the headings and the rows as lines with tabs."""
    if not sys.stdout.isatty():
        for row in (headings, *rows):
            click.echo("\t".join(cell.replace("\n", " ") for cell in row))
        return
    from rich import box  # noqa: PLC0415  (a terminal's expense only)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        shown.add_column(heading, overflow="fold")  # nothing is cut on a narrow terminal
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    # rich honours NO_COLOR itself.
    Console(width=shutil.get_terminal_size().columns, highlight=False).print(shown)


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
