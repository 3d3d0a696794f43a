"""Output of a host without what a terminal would execute: an engine may write any bytes into its log."""

from __future__ import annotations

import re

_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
"""Control characters but tab and line feed, and those that reverse the direction of text."""
_RAW = re.compile(f"[{_CONTROL}]")
_ESCAPED = re.compile(
    r"(?<!\\)((?:\\\\)*)\\(?:[bfr]|u(?:00(?:0[0-8b-f]|1[0-9a-f]|7f|[89][0-9a-f])|202[a-e]|206[6-9]))",
    re.IGNORECASE,
)
"""The same in a string of JSON, after an even number of backslashes."""
_MAYBE = re.compile(r"\\(?:[bfr]|u00|u20[26])", re.IGNORECASE)
"""Quickly found; most answers of a probe have none."""


def printable(text: str) -> str:
    """Return text or JSON with ``?`` for each control character, written raw or as an escape of JSON."""
    return _RAW.sub("?", _ESCAPED.sub(r"\1?", text) if _MAYBE.search(text) else text)
