"""Log streams: cut into lines, whatever an engine writes."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest

from sparkfleet.runtimes.docker.onhost.streams import LINE_LIMIT, lines_of

OUT, ERR = 1, 2


def frame(kind: int, text: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def stream(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))  # type: ignore[type-var, unused-ignore]


def test_lines_of_both_outputs_are_assembled_separately() -> None:
    content = frame(OUT, b"one, ") + frame(ERR, b"error\r\n") + frame(OUT, b"two\nrest")
    assert list(lines_of(stream(content), tty=False)) == ["error", "one, two", "rest"]


class Endless(io.RawIOBase):
    """The output of an engine that writes letters and never ends a line."""

    def __init__(self, content: bytes) -> None:
        self.content = itertools.cycle(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = bytes(itertools.islice(self.content, len(buffer)))
        return len(buffer)


@pytest.mark.parametrize("tty", [True, False])
def test_a_line_without_an_end_is_passed_on_in_parts(tty: bool) -> None:
    content = b"x" if tty else frame(OUT, b"x" * 16384)
    parts = lines_of(io.BufferedReader(Endless(content)), tty=tty)
    for part in itertools.islice(parts, 3):
        assert LINE_LIMIT < len(part) <= 2 * LINE_LIMIT
        assert set(part) == {"x"}
