"""Bytes of an engine do not reach the operator's terminal as commands."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
