"""``sparkfleet logs``: what is requested, and how a line is printed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sparkfleet.cli.logs import line_text, logs
from sparkfleet.contract.logs import MAX_LINES, LogLine
from sparkfleet.fleet import log_stream
from sparkfleet.fleet.log_stream import Query

LINES = ("ready", "ERROR no memory", "GET /v1/models 200")


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "spark-01.yaml").write_text("serve: []\n")
    path = tmp_path / "home.py"
    path.write_text("")
    return str(path)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Query]]:
    """What the command requests; the Spark prints LINES."""
    found: list[tuple[str, Query]] = []

    def on_one(_: Path, host: str, work: Callable[[Any], None]) -> None:
        work(host)

    def print_log(host: str, query: Query, show: Any, _: Any) -> None:
        found.append((host, query))
        for line in LINES:
            show(LogLine(line))

    # Not the module itself: it imports pyinfra's command line, which patches the process of all tests.
    monkeypatch.setitem(sys.modules, "sparkfleet.fleet.queries", SimpleNamespace(on_one=on_one))
    monkeypatch.setattr(log_stream, "print_log", print_log)
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches.before_connections", lambda: None)
    return found


def run(inventory: str, *args: str) -> tuple[int, str]:
    done = CliRunner().invoke(logs, [inventory, *args])
    return done.exit_code, done.output


def test_the_last_lines_of_the_engine_are_the_default(
    inventory: str, requests: list[tuple[str, Query]]
) -> None:
    assert run(inventory, "spark-01/nano") == (0, "".join(f"{line}\n" for line in LINES))
    assert requests == [("spark-01", Query("engine", "nano", 200))]


def test_lines_are_selected_by_time_and_by_a_regular_expression(
    inventory: str, requests: list[tuple[str, Query]]
) -> None:
    args = ("spark-01", "--since", "2h", "--grep", "ERROR|Traceback", "--source", "supervisor", "-f")
    assert run(inventory, *args) == (0, "ERROR no memory\n")
    assert requests == [("spark-01", Query("supervisor", "", MAX_LINES, 7200.0, follow=True))]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("spark-01", "--since", "yesterday"), "is no duration: expected a number and s, m, h or d"),
        (("spark-01", "--grep", "("), "is no regular expression"),
        (("spark-*",), "expected HOST or HOST/SERVICE"),
        (("spark-01/",), "expected HOST or HOST/SERVICE"),
        (("/nano",), "expected HOST or HOST/SERVICE"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_before_any_connection(
    inventory: str, requests: list[tuple[str, Query]], args: tuple[str, ...], message: str
) -> None:
    code, text = run(inventory, *args)
    assert (code, requests) == (2, [])
    assert message in " ".join(text.split())


def test_a_line_without_a_time_of_its_own_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert line_text(LogLine("starts", 0.5)) == "1970-01-01 00:00:00  starts"
    assert line_text(LogLine("ready")) == "ready"
