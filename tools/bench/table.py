"""The results as tables on a terminal, and as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from tools.bench.measure import Row


@dataclass(frozen=True)
class Budget:
    """A limit and the measured value."""

    text: str
    limit: str
    measured: str
    held: bool


@dataclass(frozen=True)
class Count:
    """The traffic of a tool per host: counted by sshd and by the relay."""

    title: str
    connections: float
    commands: float
    up_kib: float
    down_kib: float


HEADINGS = ("what", "hosts", "median", "fastest", "x plan", "controller CPU", "memory", "n")
WIRE_HEADINGS = ("per host", "connections", "remote commands", "KiB sent", "KiB received")


def machine() -> dict[str, Any]:
    """Return the properties of this computer that results depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        "",
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def seconds(value: float) -> str:
    """Return a time in a readable unit."""
    if math.isnan(value):
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"  # noqa: PLR2004


def cells(row: Row, reference: Row | None) -> tuple[str, ...]:
    """Return a row's cells; the ratio is to the plan of the same number of hosts in the same run."""
    if row.failed:
        return (row.title, str(row.hosts), "failed", "", "", "", "", "")
    wall = row.median("wall_s")
    ratio = f"{wall / reference.median('wall_s'):.1f}" if reference and reference is not row else ""
    return (
        row.title,
        str(row.hosts),
        seconds(wall),
        seconds(min((sample.wall_s for sample in row.samples), default=float("nan"))),
        ratio,
        seconds(row.median("cpu_s")),
        f"{row.median('rss_mib'):.0f} MiB",
        str(len(row.samples)),
    )


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows by their groups, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return found


def reference_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """Return the plan of the same number of hosts in the same group."""
    return next(
        (r for r in rows if r.hosts == row.hosts and r.title == "sparkfleet plan" and r.samples), None
    )


def show(
    rows: Sequence[Row], counts: Sequence[Count], notes: Sequence[str], budgets: Sequence[Budget]
) -> None:
    """Print the tables."""
    console = Console(highlight=False, width=None if os.isatty(1) else 110)
    for group, members in grouped(rows).items():
        table = Table(*HEADINGS, title=group, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in members:
            table.add_row(*cells(row, reference_of(row, members)))
        console.print(table)
    if counts:
        table = Table(
            *WIRE_HEADINGS,
            title="Network traffic", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        )  # fmt: skip
        for count in counts:
            table.add_row(
                count.title,
                f"{count.connections:.1f}",
                f"{count.commands:.1f}",
                f"{count.up_kib:.1f}",
                f"{count.down_kib:.1f}",
            )
        console.print(table)
    for note in notes:
        console.print(note)
    table = Table("budget", "limit", "measured", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for budget in budgets:
        table.add_row(
            budget.text, budget.limit, budget.measured, "held" if budget.held else "[red]missed[/red]"
        )
    console.print(table)


def as_json(
    rows: Sequence[Row],
    counts: Sequence[Count],
    notes: Sequence[str],
    budgets: Sequence[Budget],
    extra: Mapping[str, Any],
) -> str:
    """Return all results with their samples."""
    return json.dumps(
        {
            "machine": machine(),
            "rows": [
                {
                    "group": row.group, "what": row.title, "hosts": row.hosts, "failed": row.failed,
                    "median_s": row.median("wall_s"), "cpu_s": row.median("cpu_s"),
                    "rss_mib": row.median("rss_mib"),
                    "samples": [vars(sample) for sample in row.samples],
                }
                for row in rows
            ],
            "counts": [vars(count) for count in counts],
            "notes": list(notes),
            "budgets": [vars(budget) for budget in budgets],
            **extra,
        },
        indent=1,
    )  # fmt: skip
