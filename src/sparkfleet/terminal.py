"""Styled output: colour on a terminal, plain lines when piped, NO_COLOR respected."""

from __future__ import annotations

import os

import click

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "bright_red"}


def colour_setting() -> bool | None:
    """Return False when NO_COLOR is set (no-color.org), else None: click decides by the terminal."""
    return False if os.environ.get("NO_COLOR") else None


def echo_report(text: str, *, err: bool = False) -> None:
    """Print a plan: each field in the colour of its sign, headlines bold."""
    for line in text.splitlines():
        click.echo(_styled(line), err=err, color=colour_setting())


def _styled(line: str) -> str:
    sign = line[2:3]
    if line.startswith("  ") and sign in _COLOURS:
        return click.style(line, fg=_COLOURS[sign])
    if line.startswith("  "):
        return click.style(line, dim=True)
    return click.style(line, bold=True) if "no changes" not in line else line
