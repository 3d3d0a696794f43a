"""Progress of every host: a live table on a terminal, otherwise occasional lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from sparkfleet.units import duration, size

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

QUIET_S = 15.0
"""Seconds between two lines of a host in one phase, without a terminal."""


RATE_OVER_S = 20.0
"""Seconds over which a rate is measured, at least; half of the transfer's time, if that is longer."""
MEASURED_S = 3.0
"""Seconds of measurements without which no remaining time is shown."""
BAR_WIDTH = 24
"""Characters of a bar."""


@dataclass
class Row:
    """The progress of one host."""

    began: float
    phase: str = ""
    text: str = ""
    printed: float = 0.0
    flow: Transfer | None = None
    """The transfer to the host, during one."""


@dataclass
class Transfer:
    """The progress of one transfer."""

    total: int
    began: float | None = None
    samples: deque[tuple[float, int]] = field(default_factory=deque)
    """Time and bytes, of the last RATE_OVER_S seconds."""

    def note(self, now: float, have: int) -> None:
        """Add a measurement."""
        self.began = now if self.began is None else self.began
        self.samples.append((now, have))
        over = max(RATE_OVER_S, (now - self.began) / 2)
        while len(self.samples) > 2 and now - self.samples[1][0] >= over:  # noqa: PLR2004
            self.samples.popleft()

    @property
    def have(self) -> int:
        """Return the bytes transferred so far."""
        return self.samples[-1][1] if self.samples else 0

    @property
    def rate(self) -> float:
        """Return bytes a second; 0: not known yet."""
        if not self.samples:
            return 0.0
        (begin, first), (end, last) = self.samples[0], self.samples[-1]
        return max(0.0, (last - first) / (end - begin)) if end > begin else 0.0

    @property
    def remaining(self) -> float | None:
        """Return the seconds until its end; None: not known yet."""
        if not self.rate or self.samples[-1][0] - self.samples[0][0] < MEASURED_S:
            return None
        return max(0, self.total - self.have) / self.rate


def rate_and_remaining(flows: Sequence[Transfer]) -> str:
    """Return the total rate and the remaining time: ``48 MiB/s, 6 min left``."""
    rate = sum(flow.rate for flow in flows)
    left = sum(flow.total - flow.have for flow in flows)
    if not rate or left <= 0:
        return ""
    # Each transfer has its own link: the slowest one ends last.
    slowest = max((flow.remaining for flow in flows if flow.remaining is not None), default=None)
    known = f", {duration(slowest)} left" if slowest is not None else ""
    return f"{size(round(rate))}/s{known}"


def clock(seconds: float) -> str:
    """Return seconds as ``3:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class ProgressTable:
    """The progress of a run: a live table on a terminal, otherwise lines on stderr."""

    def __init__(
        self,
        terminal: bool,
        echo: Callable[[str], None] = lambda line: click.echo(line, err=True),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an empty board."""
        self._rows: dict[str, Row] = {}
        self._background: dict[str, Row] = {}
        self._fleet_printed = 0.0
        self._terminal = terminal
        self._echo = echo
        self._now = now
        self._live: Live | None = None

    @contextmanager
    def host(self, name: str) -> Iterator[None]:
        """Show a host for as long as something is done to it."""
        self._rows[name] = Row(self._now())
        if self._terminal and self._live is None:
            from rich.console import Console  # noqa: PLC0415  (only for a terminal)
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

    def progress(self, name: str, phase: str, text: str, have: int = 0, total: int = 0) -> None:
        """Show the phase of a host; ``have`` of ``total`` bytes, during a transfer.

        Without a terminal a line is printed when the phase is new, or when the last line is QUIET_S old.
        """
        row = self._rows.get(name)
        now = self._now()
        if row is None:  # it sends to another host, before its own operations begin
            row = self._background.setdefault(name, Row(now))
        fresh = phase != row.phase
        row.phase, row.text = phase, text
        if fresh or row.flow is None or not total:
            row.flow = Transfer(total) if total else None
        if row.flow is not None:
            row.flow.total = total  # of a pull it grows with each layer that becomes known
            row.flow.note(now, have)
        if self._live is None and (fresh or now - row.printed >= QUIET_S):
            row.printed = now
            speed = rate_and_remaining([row.flow]) if row.flow else ""
            message = "  ".join(part for part in (text, speed) if part)
            self._echo(f"{name}   {clock(now - row.began)}  {phase}{': ' if message else ''}{message}")
            self._print_fleet(now)

    def _flows(self) -> list[Transfer]:
        return [row.flow for row in self._rows.values() if row.flow is not None]

    def _print_fleet(self, now: float) -> None:
        """Print the progress of all transfers, where there are several."""
        flows = self._flows()
        speed = rate_and_remaining(flows)
        if len(flows) > 1 and speed and now - self._fleet_printed >= QUIET_S:
            self._fleet_printed = now
            self._echo(f"fleet   {fleet_text(flows)}  {speed}")

    def title(self, text: str) -> None:
        """Print a permanent line about all hosts."""
        self._echo(text)

    def log(self, name: str, text: str) -> None:
        """Print a permanent line, on a terminal too."""
        row = self._rows.get(name)
        self._echo(f"{name}   {clock(self._now() - row.began) if row else '0:00'}  {text}")

    def table(self) -> Table:
        """Return the rows as they are now."""
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.spinner import Spinner  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        def bar(flows: Sequence[Transfer]) -> ProgressBar | str:
            total, have = sum(flow.total for flow in flows), sum(flow.have for flow in flows)
            return ProgressBar(total, have, width=BAR_WIDTH) if total else ""

        table = Table.grid(padding=(0, 2))
        for name, row in self._rows.items():
            own = [row.flow] if row.flow else []
            took = clock(self._now() - row.began)
            table.add_row(Spinner("dots"), name, took, row.phase, row.text, bar(own), rate_and_remaining(own))
        flows = self._flows()
        if len(flows) > 1:
            table.add_row("", "fleet", "", "", fleet_text(flows), bar(flows), rate_and_remaining(flows))
        return table


def fleet_text(flows: Sequence[Transfer]) -> str:
    """Return the transferred and total bytes of all transfers."""
    return f"{size(sum(flow.have for flow in flows))} of {size(sum(flow.total for flow in flows))}"


def on_terminal() -> bool:
    """Return whether output goes to a terminal."""
    return sys.stderr.isatty() and sys.stdout.isatty()
