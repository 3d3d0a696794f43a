"""What goes on, per host, while it goes on: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

QUIET_S = 15.0
"""Seconds that a host may stay silent in one phase before a line says where it is (without a terminal)."""


@dataclass
class Row:
    """Where one host is."""

    began: float
    phase: str = ""
    text: str = ""
    said: float = 0.0


def clock(seconds: float) -> str:
    """Return seconds as ``3:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Board:
    """All hosts of a run. On a terminal a table that is drawn again and again; otherwise lines on stderr."""

    def __init__(
        self,
        terminal: bool,
        echo: Callable[[str], None] = lambda line: click.echo(line, err=True),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet."""
        self._rows: dict[str, Row] = {}
        self._others: dict[str, Row] = {}
        self._terminal = terminal
        self._echo = echo
        self._now = now
        self._live: Live | None = None

    @contextmanager
    def host(self, name: str) -> Iterator[None]:
        """Show a host for as long as something is done to it."""
        self._rows[name] = Row(self._now())
        if self._terminal and self._live is None:
            from rich.console import Console  # noqa: PLC0415  (a terminal's expense only)
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(
                get_renderable=self.table, console=Console(stderr=True), refresh_per_second=4, transient=True
            )
            self._live.start()
        try:
            yield
        finally:
            del self._rows[name]
            if not self._rows and self._live is not None:
                self._live.stop()
                self._live = None

    def tell(self, name: str, phase: str, text: str) -> None:
        """Say where a host is now.

        Without a terminal a line is printed when the phase is new, or when the last line is QUIET_S old.
        """
        row = self._rows.get(name)
        now = self._now()
        if row is None:  # done for another host, before the run comes to this one
            row = self._others.setdefault(name, Row(now))
        fresh = phase != row.phase
        row.phase, row.text = phase, text
        if self._live is None and (fresh or now - row.said >= QUIET_S):
            row.said = now
            self._echo(f"{name}   {clock(now - row.began)}  {phase}{': ' if text else ''}{text}")

    def say(self, name: str, text: str) -> None:
        """Print a line that stays, on a terminal too."""
        row = self._rows.get(name)
        self._echo(f"{name}   {clock(self._now() - row.began) if row else '0:00'}  {text}")

    def table(self) -> Table:
        """Return the rows as they are now."""
        from rich.spinner import Spinner  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        table = Table.grid(padding=(0, 2))
        for name, row in self._rows.items():
            table.add_row(Spinner("dots"), name, clock(self._now() - row.began), row.phase, row.text)
        return table


def on_terminal() -> bool:
    """Tell whether people look at stderr right now."""
    return sys.stderr.isatty() and sys.stdout.isatty()
