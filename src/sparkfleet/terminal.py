"""Styled output (plain lines when piped, NO_COLOR respected), and output that cannot fail."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

from sparkfleet.errors import with_inventory

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "bright_red"}


def colour_setting() -> bool | None:
    """Return False when NO_COLOR is set (no-color.org), else None: click decides by the terminal."""
    return False if os.environ.get("NO_COLOR") else None


def echo_report(text: str, *, err: bool = False) -> None:
    """Print a plan: each field in the colour of its sign, headlines bold."""
    for line in with_inventory(text).splitlines():
        click.echo(_styled(line), err=err, color=colour_setting())


def _styled(line: str) -> str:
    sign = line[2:3]
    if line.startswith("  ") and sign in _COLOURS:
        return click.style(line, fg=_COLOURS[sign])
    if line.startswith("  "):
        return click.style(line, dim=True)
    return click.style(line, bold=True) if "no changes" not in line else line


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
