import sys
from typing import Any

import pytest

from sparkfleet.cli import output


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB"), (123 << 30, "123.0 GiB")]
)
def test_sizes_are_printed_as_people_read_them(number: Any, text: str) -> None:
    if number:
        assert output.size(number) == text
    else:
        assert output.size(number) == "0.0 MiB"


def test_a_table_on_a_terminal_has_headings_and_honours_no_color(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    output.table(("name", "size"), [("a", "1")])
    stdout = capsys.readouterr().out
    assert "name" in stdout
    assert "\x1b[3" not in stdout


def test_a_piped_table_is_tabs_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "size"), [("a\nb", "1"), ("c", "2")])
    assert capsys.readouterr().out == "name\tsize\na b\t1\nc\t2\n"


def test_a_table_on_a_narrow_terminal_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    command = "docker-inspect-spark-01-and-everything-after-it"
    output.table(("name", "command"), [("a long name of a host", command)])
    shown = "".join(line[-19:].strip() for line in capsys.readouterr().out.splitlines()[3:])
    assert command in shown
