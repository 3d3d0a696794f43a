"""The table of docs/explanation/performance.md is written from what a benchmark measured, never by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tools.bench.document import HEADING, PAGE, markdown, write_into

ROOT = Path(__file__).parents[3]


def row(what: str, hosts: int, seconds: float, failed: str = "") -> dict[str, Any]:
    return {
        "group": "Sparks",
        "what": what,
        "hosts": hosts,
        "failed": failed,
        "median_s": seconds,
        "cpu_s": 0.5,
        "rss_mib": 68.4,
        "samples": [{"wall_s": seconds}, {"wall_s": 0.25}],
    }


FOUND: dict[str, Any] = {
    "machine": {
        "date": "2026-11-21 13:05",
        "cores": 2,
        "cpu": "AMD EPYC",
        "memory_gib": 24,
        "kernel": "6.18",
        "python": "3.11.7",
    },
    "rows": [
        row("sparkfleet plan", 4, 0.5),
        row("ansible", 4, 10.0),
        row("ansible", 8, 0, failed="no such host"),
    ],
    "counts": [{"title": "plan", "connections": 1, "commands": 1, "up_kib": 12.24, "down_kib": 14.8}],
    "notes": ["wall time of a plan of n hosts: 405 ms + n x 61.86 ms"],
    "budgets": [
        {"text": "one Spark", "limit": "<= 900 ms", "measured": "867 ms", "held": True},
        {"text": "200 hosts", "limit": "<= 4.00 s", "measured": "13.1 s", "held": False},
    ],
}

WRITTEN = """\
Measured 2026-11-21 13:05 by `make bench` on 2 cores (AMD EPYC), 24 GiB, Linux 6.18, Python 3.11.7.

### Sparks

| what | hosts | median | fastest | x plan | controller CPU | memory | n |
|---|---|---|---|---|---|---|---|
| sparkfleet plan | 4 | 500 ms | 250 ms |  | 500 ms | 68 MiB | 2 |
| ansible | 4 | 10.0 s | 250 ms | 20.0 | 500 ms | 68 MiB | 2 |
| ansible | 8 | failed |  |  |  |  |  |

### Network traffic

| per host | connections | remote commands | KiB sent | KiB received |
|---|---|---|---|---|
| plan | 1.0 | 1.0 | 12.2 | 14.8 |

- wall time of a plan of n hosts: 405 ms + n x 61.86 ms

### Budgets

| budget | limit | measured |  |
|---|---|---|---|
| one Spark | <= 900 ms | 867 ms | held |
| 200 hosts | <= 4.00 s | 13.1 s | missed |
"""


def test_a_run_is_written_as_tables_with_what_failed_and_what_was_missed() -> None:
    assert markdown(FOUND) == WRITTEN


def test_the_tables_take_the_place_of_those_before_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\nText.\n\n{HEADING}\nOld.\n\n### Old\n")
    write_into(page, FOUND)
    write_into(page, FOUND)
    assert page.read_text() == f"# Title\n\nText.\n\n{HEADING}\n{WRITTEN}"


def test_a_page_without_the_heading_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n")
    with pytest.raises(ValueError, match="has no line '## The table'"):
        write_into(page, FOUND)
    assert page.read_text() == "# Title\n"


def test_the_documentation_has_the_place_for_it() -> None:
    assert HEADING in (ROOT / PAGE).read_text()
