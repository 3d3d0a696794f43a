"""Styled output (plain lines when piped, NO_COLOR respected), and output that cannot fail."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from sparkfleet import layout
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import paragraph, with_inventory

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "bright_red"}
_SIGNED = re.compile(r"  [+~=!-] ")
_VALUE, _TITLE = 16, 11
"""Where the value of a field and the title of a host begin in a report."""
_STATES = {
    "green": ("ok", "running", "active running", "equal", "tested", "serves"),
    "yellow": ("warn", "warning", "differs", "degraded", "derived", "rollout in progress", "restarting"),
    "red": ("fail", "failed", "exited", "dead", "absent", "unknown", "blocked", "inactive dead", "no record"),
}
_STATE_COLOURS = {state: colour for colour, states in _STATES.items() for state in states}


def colour_setting() -> bool | None:
    """Return False when NO_COLOR is set (no-color.org), else None: click decides by the terminal."""
    return False if os.environ.get("NO_COLOR") else None


def columns() -> int:
    """Return the width of the terminal."""
    return shutil.get_terminal_size().columns


def is_terminal(*, err: bool = False) -> bool:
    """Return whether stdout, or stderr, is a terminal."""
    return (sys.stderr if err else sys.stdout).isatty()


def echo_report(text: str, *, err: bool = False) -> None:
    """Print a plan: each field in the colour of its sign, headlines bold. On a terminal, long lines fold."""
    _echo(text, fold_report, _styled, err=err)


def echo_page(text: str) -> None:
    """Print a page about one subject: its headings bold, long lines folded on a terminal."""
    _echo(text, fold_page, lambda line: str if line.startswith(" ") else partial(click.style, bold=True))


def echo_diagnostic(diagnostic: Diagnostic) -> None:
    """Print a diagnostic and its related ones on stderr."""
    echo_paragraph(paragraph(diagnostic))


def echo_paragraph(text: str) -> None:
    """Print the text of diagnostics on stderr: its first line in the colour of its severity."""
    _echo(text, fold_paragraph, _styled_paragraph, err=True)


def _echo(
    text: str,
    fold: Callable[[str, int], list[str]],
    style: Callable[[str], Callable[[str], str]],
    *,
    err: bool = False,
) -> None:
    width = columns() if is_terminal(err=err) else 0
    for line in with_inventory(text).splitlines():
        styled = style(line)
        for part in fold(line, width) if width else [line]:
            click.echo(styled(part), err=err, color=colour_setting())


def fold_report(line: str, width: int) -> list[str]:
    """Return a line of a report as lines of a terminal."""
    if line.lstrip().startswith("do: "):
        return layout.fold_remedy(line, width)
    if _SIGNED.match(line):
        return layout.fold(line, width, min(_VALUE, width // 4))
    if line.startswith(" "):
        return layout.fold(line, width, layout.leading(line) + layout.INDENT)
    if len(line) > width:  # the cost of a change stands at a column that a narrow terminal does not have
        line = line[:_TITLE] + re.sub(r" {4,}", "   ", line[_TITLE:])
    return layout.fold(line, width, _TITLE)


def fold_page(line: str, width: int) -> list[str]:
    """Return a line of a page as lines of a terminal; values of its fields stand below each other."""
    field = re.match(r"  (\S+( \S+)?)  +|  - ", line)
    return layout.fold(line, width, len(field[0]) if field else layout.leading(line) + layout.INDENT)


def fold_paragraph(line: str, width: int) -> list[str]:
    """Return a line of a diagnostic as lines of a terminal."""
    if line.lstrip().startswith("do: "):
        return layout.fold_remedy(line, width)
    return layout.fold(line, width, layout.leading(line) + layout.INDENT)


def _styled(line: str) -> Callable[[str], str]:
    sign = line[2:3]
    if line.lstrip().startswith("do: "):
        return partial(click.style, fg="cyan")
    if _SIGNED.match(line) and sign in _COLOURS:
        return partial(click.style, fg=_COLOURS[sign])
    if line.startswith("  "):
        return partial(click.style, dim=True)
    if re.match(r"\S+ +unknown: ", line):
        return partial(click.style, fg="red", bold=True)
    return str if "no changes" in line else partial(click.style, bold=True)


def _styled_paragraph(line: str) -> Callable[[str], str]:
    if line.lstrip().startswith("do: "):
        return partial(click.style, fg="cyan")
    if line.startswith(" "):
        return str
    return partial(
        click.style, fg="yellow" if ": warning: " in line else None if ": info: " in line else "red"
    )


def echo_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, err: bool = False) -> None:
    """Print rows as a table of the terminal's width: headings bold, states in their colours."""
    first, *rest = layout.table([headings, *rows], columns())
    for line in first:
        click.echo(click.style(layout.line_text(line), bold=True), err=err, color=colour_setting())
    for row in rest:
        for line in row:
            texts = [_state_styled(cell.text, cell.width) for cell in line]
            click.echo(
                (layout.indent_of(line) + (" " * layout.GAP).join(texts)).rstrip(),
                err=err,
                color=colour_setting(),
            )


def echo_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print rows on stderr, on a terminal as a table without headings."""
    if rows and is_terminal(err=True):
        for lines in layout.table(rows, columns()):
            for line in lines:
                click.echo(layout.line_text(line), err=True)
        return
    for row in rows:
        click.echo("   ".join(cell for cell in row if cell), err=True)


def _state_styled(text: str, width: int = 0) -> str:
    """Return the text in the colour of the state that it names, padded."""
    colour = _STATE_COLOURS.get(text.partition(":")[0])
    return (click.style(text, fg=colour) if colour else text) + " " * (width - len(text))


class _Descriptor(io.RawIOBase):
    """A file descriptor whose writes never fail: after the first error the output is dropped."""

    def __init__(self, number: int) -> None:
        """Remember the descriptor."""
        self.error: OSError | None = None
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        if self.error is None:
            try:
                return os.write(self._number, view)
            except OSError as error:
                self.error = error
        return view.nbytes


_streams: list[_Descriptor] = []


def tolerate_output_errors() -> None:
    """Make stdout and stderr survive a closed pipe, a full disk, no descriptor, and an ASCII locale.

    A run must not end in its middle because nobody reads its output. Characters that the locale does not have
    become ``?``. ``output_error`` says what was lost.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # or the next socket would get that number, and what is printed would go there
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (for the whole program)
        if not _writes_to(stream, number):
            continue  # a test's, or a redirection within the program
        descriptor = _Descriptor(number)
        _streams.append(descriptor)
        wrapped = io.TextIOWrapper(
            io.BufferedWriter(descriptor),
            encoding=stream.encoding,
            errors="replace",
            line_buffering=stream.line_buffering or name == "stderr",
            write_through=stream.write_through,
        )
        setattr(sys, name, wrapped)


def _writes_to(stream: Any, number: int) -> bool:
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == number
    except (OSError, ValueError):
        return False


def output_error() -> str:
    """Return why output was lost, "" if it was not, or if its reader closed the pipe."""
    sys.stdout.flush()
    errors = [one.error for one in _streams if one.error and not isinstance(one.error, BrokenPipeError)]
    return f"the output cannot be written: {errors[0].strerror}" if errors else ""
