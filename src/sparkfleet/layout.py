"""Text laid out by the width of a terminal: folded lines and tables. Pure: no colours, no output.

Lines break between words. Names and commands are never cut, so that they can be copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

GAP = 2
"""Spaces between two columns."""
INDENT = 4
"""Spaces before the second and later lines of a row."""
FOLDED = 18
"""A column is folded to no less than this, or than its longest word."""

_WORD = re.compile(r"\s*\S+")
_DO = re.compile(r"( *do: )(.*)")
_COMMAND = re.compile(
    r"(^|[ :`(])(apt-get|curl|df|docker|git|ip|journalctl|netplan|nmcli|nvidia-smi|ping|pip|ps|pyinfra"
    r"|python3|sparkfleet|ssh|ssh-copy-id|ssh-keygen|sudo|systemctl) \S"
)
"""Where a command begins in a remedy."""


def fold(line: str, width: int, indent: int = 0) -> list[str]:
    """Return a line as lines of at most ``width`` characters, the second one and later ones with an indent.

    A longer word gets a line of its own.
    """
    if len(line) <= width:
        return [line]
    folded, current = [], ""
    for word in _WORD.findall(line):
        if current.strip() and len(current) + len(word) > width:
            folded.append(current)
            current = " " * indent + word.lstrip()
        else:
            current += word
    return [*folded, current]


def fold_remedy(line: str, width: int) -> list[str]:
    """Return a remedy (``do: ...``) with one line for each of its parts; parts with a command are not folded.

    A terminal wraps a long line, and copies it as one; a line break would end the command.
    """
    match = _DO.fullmatch(line)
    if match is None or len(line) <= width:
        return [line]
    label, text = match.groups()
    indent = " " * len(label)
    parts = re.split(r"(?<=;) ", text)
    lines: list[str] = []
    for number, part in enumerate(parts):
        begin = (indent if number else label) + part
        lines += [begin] if _COMMAND.search(part) else fold(begin, width, len(indent))
    return lines


@dataclass(frozen=True)
class Cell:
    """A part of a line of a table."""

    column: int
    text: str
    width: int


def table(rows: Sequence[Sequence[str]], width: int) -> list[list[list[Cell]]]:
    """Return the lines of each row. Columns that do not fit on one line continue on the next."""
    columns = [_Column.of(cells) for cells in zip(*rows, strict=True)]
    groups = list(_groups(columns, width))
    widths = [one for group in groups for one in _widths([columns[at] for at in group], _room(group, width))]
    return [[line for group in groups for line in _lines(row, group, widths)] for row in rows]


def leading(line: str) -> int:
    """Return the number of spaces before a line's text."""
    return len(line) - len(line.lstrip())


def line_text(cells: Sequence[Cell]) -> str:
    """Return a line of a table without colours."""
    text = (" " * GAP).join(cell.text.ljust(cell.width) for cell in cells)
    return (indent_of(cells) + text).rstrip()


def indent_of(cells: Sequence[Cell]) -> str:
    """Return the spaces before the cells of a line."""
    return " " * INDENT if cells and cells[0].column else ""


@dataclass(frozen=True)
class _Column:
    natural: int
    least: int

    @classmethod
    def of(cls, cells: Sequence[str]) -> _Column:
        natural = max(map(len, cells))
        longest = max((len(word) for cell in cells for word in cell.split()), default=0)
        return cls(natural, min(natural, max(longest, FOLDED)))


def _room(group: range, width: int) -> int:
    return width - (INDENT if group.start else 0)


def _groups(columns: Sequence[_Column], width: int) -> Iterator[range]:
    """Yield the columns of each line: as many as fit."""
    start, used = 0, 0
    for number, column in enumerate(columns):
        if number > start and used + GAP + column.least > width - (INDENT if start else 0):
            yield range(start, number)
            start, used = number, column.least
        else:
            used += column.least + (GAP if number > start else 0)
    yield range(start, len(columns))


def _widths(columns: Sequence[_Column], room: int) -> Iterator[int]:
    spare = max(0, room - GAP * (len(columns) - 1) - sum(one.least for one in columns))
    for column in columns:
        more = min(spare, column.natural - column.least)
        spare -= more
        yield column.least + more


def _lines(row: Sequence[str], group: range, widths: Sequence[int]) -> Iterator[list[Cell]]:
    folded = [fold(row[at], widths[at]) for at in group]
    for number, texts in enumerate(zip_longest(*folded, fillvalue="")):
        if number == 0 and group.start and not any(texts):
            return
        yield [Cell(at, text, widths[at]) for at, text in zip(group, texts, strict=True)]
