"""The results as Markdown, from the JSON of a run: build/bench.md, and the table in the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.table import HEADINGS, WIRE_HEADINGS, seconds

PAGE = "docs/explanation/performance.md"
HEADING = "## The table\n"
"""``write_into`` generates the rest of the page after this heading."""

Found = Mapping[str, Any]
"""``build/bench.json``, as ``table.as_json`` writes it, or a part of it."""


def markdown(results: Found) -> str:
    """Return all tables of a run."""
    computer = results["machine"]
    text = (
        f"Measured {computer['date']} by `make bench` on {computer['cores']} cores ({computer['cpu']}), "
        f"{computer['memory_gib']} GiB, Linux {computer['kernel']}, Python {computer['python']}.\n"
    )
    for group in dict.fromkeys(row["group"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["group"] == group]
        text += f"\n### {group}\n\n" + _table(HEADINGS, [_cells(row, rows) for row in rows])
    text += "\n### Network traffic\n\n" + _table(WIRE_HEADINGS, map(_wire, results["counts"]))
    text += "\n" + "".join(f"- {note}\n" for note in results["notes"])
    lines = [
        (one["text"], one["limit"], one["measured"], "held" if one["held"] else "missed")
        for one in results["budgets"]
    ]
    return text + "\n### Budgets\n\n" + _table(("budget", "limit", "measured", ""), lines)


def write_into(page: Path, results: Found) -> None:
    """Replace the tables of a page by those of a run."""
    text = page.read_text()
    if HEADING not in text:
        raise ValueError(f"{page} has no line {HEADING.strip()!r}")
    page.write_text(f"{text.partition(HEADING)[0]}{HEADING}\n{markdown(results)}")


def _cells(row: Found, group: Sequence[Found]) -> tuple[str, ...]:
    """Return a row's cells; the ratio is to the plan of the same number of hosts in the same run."""
    if row["failed"]:
        return (row["what"], str(row["hosts"]), "failed", "", "", "", "", "")
    same_size = [one for one in group if one["hosts"] == row["hosts"] and one["samples"]]
    plan = next((one for one in same_size if one["what"] == "sparkfleet plan"), row)
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
