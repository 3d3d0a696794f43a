"""Bytes of an engine do not reach the operator's terminal as commands."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.connectors.util import CommandOutput, OutputLine

from sparkfleet.fleet.connection import shell
from sparkfleet.fleet.connection.printable import printable

HARMLESS = "\t\n"


def is_harmless(text: str) -> bool:
    """Return whether a terminal shows the text and does nothing else."""
    bidirectional = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
    return all(
        char in HARMLESS or (unicodedata.category(char) != "Cc" and char not in bidirectional)
        for char in text
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07 \x1b[2J", "?]0;title? ?[2J"),
        ("nano\rspark-01 serves", "nano?spark-01 serves"),
        ("caf\u00e9 \u2192 \U0001f600", "caf\u00e9 \u2192 \U0001f600"),
        (r"a path: C:\temp\new", r"a path: C:\temp\new"),
    ],
)
def test_a_line_of_a_program(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text() | st.text(alphabet="\\\x1bu0b1rn\u202e\x9b"))
def test_a_document_has_no_control_character_after_it_was_read(text: str) -> None:
    for ascii_only in (True, False):
        found = json.loads(printable(json.dumps({"line": text}, ensure_ascii=ascii_only)))
        assert is_harmless(found["line"])
        if is_harmless(text):
            assert found["line"] == text


class HostileHost:
    """A host that prints control characters, raw and as JSON."""

    name = "spark-01"

    def run_shell_command(self, *_: Any, **__: Any) -> tuple[bool, CommandOutput]:
        lines = ("\x1b[2J", r'{"command": "\u001b]0;title\u0007"}')
        return True, CommandOutput(
            [OutputLine(name, line) for name in ("stdout", "stderr") for line in lines]
        )


def test_no_command_on_a_host_returns_control_characters() -> None:
    _, output = shell.run_shell(HostileHost(), "true", timeout_s=5)  # type: ignore[arg-type]
    shown = ["?[2J", r'{"command": "?]0;title?"}']
    assert (output.stdout_lines, output.stderr_lines) == (shown, shown)


def test_every_command_on_a_host_goes_through_this_function() -> None:
    source = Path(shell.__file__).parents[2]
    callers = [path for path in source.rglob("*.py") if ".run_shell_command(" in path.read_text()]
    assert callers == [Path(shell.__file__)]
