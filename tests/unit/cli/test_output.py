import sys
from typing import Any

import pytest

from sparkfleet import terminal
from sparkfleet.cli import output


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB"), (123 << 30, "123.0 GiB")]
)
def test_sizes_are_printed_as_people_read_them(number: Any, text: str) -> None:
    if number:
        assert output.size(number) == text
    else:
        assert output.size(number) == "0.0 MiB"


@pytest.mark.parametrize("no_color", ["", "1"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_report_has_colours_on_a_terminal_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool, no_color: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal.echo_report("spark-01   nano\n  ~ flag   --max-model-len 1 -> 2\n")
    shown = capsys.readouterr().out
    assert "--max-model-len 1 -> 2" in shown
    assert ("\x1b[" in shown) == (is_terminal and not no_color)


def test_a_piped_table_is_tabs_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "size"), [("a\nb", "1"), ("c", "2")])
    assert capsys.readouterr().out == "name\tsize\na b\t1\nc\t2\n"


def test_a_table_on_a_narrow_terminal_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    command = "docker-inspect-spark-01-and-everything-after-it"
    output.table(("name", "command"), [("a long name of a host", command)])
    assert capsys.readouterr().out.splitlines() == [
        "name",
        "    command",
        "a long name of a host",
        f"    {command}",
    ]
