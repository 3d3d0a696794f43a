"""The figures as Markdown, from the JSON that a run wrote: build/bench.md, the table of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.table import HEADINGS, WIRE_HEADINGS, seconds

PAGE = "docs/explanation/performance.md"
HEADING = "## The table\n"
"""What follows it in the page, to its end, is written by ``write_into`` and never by hand."""

Found = Mapping[str, Any]
"""``build/bench.json``, as ``table.as_json`` writes it, or a part of it."""


def markdown(found: Found) -> str:
    """Return all tables of a run."""
    here = found["machine"]
    text = (
        f"Measured {here['date']} by `make bench` on {here['cores']} cores ({here['cpu']}), "
        f"{here['memory_gib']} GiB, Linux {here['kernel']}, Python {here['python']}.\n"
    )
    for group in dict.fromkeys(row["group"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["group"] == group]
        text += f"\n### {group}\n\n" + _table(HEADINGS, [_cells(row, rows) for row in rows])
    text += "\n### What goes over the wire\n\n" + _table(WIRE_HEADINGS, map(_wire, found["counts"]))
    text += "\n" + "".join(f"- {note}\n" for note in found["notes"])
    lines = [
        (one["text"], one["limit"], one["measured"], "held" if one["held"] else "missed")
        for one in found["budgets"]
    ]
    return text + "\n### Budgets\n\n" + _table(("budget", "limit", "measured", ""), lines)


def write_into(page: Path, found: Found) -> None:
    """Put the tables of a run into a page, in the place of those that are there."""
    text = page.read_text()
    if HEADING not in text:
        raise ValueError(f"{page} has no line {HEADING.strip()!r}")
    page.write_text(f"{text.partition(HEADING)[0]}{HEADING}\n{markdown(found)}")


def _cells(row: Found, group: Sequence[Found]) -> tuple[str, ...]:
    """Return a row's cells; the ratio is to the plan of as many hosts, in the same run."""
    if row["failed"]:
        return (row["what"], str(row["hosts"]), "failed", "", "", "", "", "")
    as_many = [one for one in group if one["hosts"] == row["hosts"] and one["samples"]]
    plan = next((one for one in as_many if one["what"] == "sparkfleet plan"), row)
    return (
        row["what"],
        str(row["hosts"]),
        seconds(row["median_s"]),
        seconds(min(sample["wall_s"] for sample in row["samples"])),
        "" if plan is row else f"{row['median_s'] / plan['median_s']:.1f}",
        seconds(row["cpu_s"]),
        f"{row['rss_mib']:.0f} MiB",
        str(len(row["samples"])),
    )


def _wire(count: Found) -> tuple[str, ...]:
    figures = (count[name] for name in ("connections", "commands", "up_kib", "down_kib"))
    return (count["title"], *(f"{figure:.1f}" for figure in figures))


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = "|" + "---|" * len(headings)
    return "\n".join([_line(headings), rule, *(_line(cells) for cells in lines)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
