"""Long texts on which a pattern does as much work as it can, made from the pattern itself.

A repeat of a pattern is repeated many times, then the match is broken: whatever backtracks, does so here.
Work is CPU time at a length and at four times that length: a linear pattern needs four times as much, a
quadratic one sixteen times.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from re import _constants as kind  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LENGTHS = (5, 20, 80, 320, 1_250, 5_000, 20_000)
NOTICED_S = 0.004
"""CPU time below which a text is no attack, whatever the ratio: measurements are noisy there."""
COSTLY_AT, COSTLY_S = 5_000, 0.1
"""A text of this length must not take longer, however linear the pattern is: a log has thousands of lines."""
MOST = 8.0
"""Ratio of the work at four times the length: between linear (4) and quadratic (16)."""
ENDS = ("", "\n!", " ")
CANDIDATES = "a1 .-/:_=,'\"([{<A~\t\n"
CATEGORIES = {
    kind.CATEGORY_DIGIT: r"\d",
    kind.CATEGORY_NOT_DIGIT: r"\D",
    kind.CATEGORY_SPACE: r"\s",
    kind.CATEGORY_NOT_SPACE: r"\S",
    kind.CATEGORY_WORD: r"\w",
    kind.CATEGORY_NOT_WORD: r"\W",
}
REPEATS = {
    kind.MAX_REPEAT,
    kind.MIN_REPEAT,
    *({kind.POSSESSIVE_REPEAT} if hasattr(kind, "POSSESSIVE_REPEAT") else ()),
}
FEW = 16
"""A repeat up to this often costs a constant."""


def slowest(pattern: re.Pattern[str], uses: str = "finditer") -> str:
    """Return the text on which a pattern needs more than linear time; "" for a linear pattern."""
    apply: Callable[[str], Any] = getattr(pattern, uses)
    for before, pump, after in attacks(pattern):
        texts = [before + pump * (length // len(pump) + 1) + after for length in LENGTHS]
        work = 0.0
        for number, text in enumerate(texts):
            former, work = work, _work(apply, text)
            if LENGTHS[number] <= COSTLY_AT and work > COSTLY_S:
                return f"{before!r}, {pump!r} for {LENGTHS[number]} characters, {after!r}: {work:.3f} s"
            if work <= NOTICED_S or work <= MOST * former:
                continue
            if number:  # measured again: the machine has other work
                former, work = (_work(apply, one, 9) for one in texts[number - 1 : number + 1])
            if work > max(NOTICED_S, MOST * former):
                return f"{before!r}, {pump!r} for {LENGTHS[number]} characters, {after!r}: {work:.3f} s"
    return ""


def _work(apply: Callable[[str], Any], text: str, runs: int = 3) -> float:
    """Return the CPU time of a pattern on a text, the least of several runs."""
    least = float("inf")
    for _ in range(runs):
        began = time.process_time()
        found = apply(text)
        if isinstance(found, Iterator):
            for _ in found:
                pass
        least = min(least, time.process_time() - began)
        if least < NOTICED_S / 10 or least > 1:
            break
    return least


def attacks(pattern: re.Pattern[str]) -> Iterator[tuple[str, str, str]]:
    """Yield what stands before, what is repeated, and what breaks the match."""
    found = dict.fromkeys(_attacks(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE), ""))
    for before, pump in found:
        for after in ENDS:
            yield before, pump, after


def _attacks(items: Any, before: str) -> Iterator[tuple[str, str]]:
    for item, value in items:
        if item in REPEATS:
            _, most, body = value
            if most > FEW:
                for pump in _pumps(body):
                    yield before, pump
                    if before:
                        yield "", before + pump
            yield from _attacks(body, before)
        for inner in _inner(item, value):
            yield from _attacks(inner, before)
        before += _shortest([(item, value)])


def _inner(item: Any, value: Any) -> list[Any]:
    if item is kind.SUBPATTERN:
        return [value[-1]]
    if item is kind.BRANCH:
        return list(value[1])
    if item in {kind.ASSERT, kind.ASSERT_NOT}:
        return [value[1]]
    return [value] if item is getattr(kind, "ATOMIC_GROUP", None) else []


def _pumps(body: Any) -> list[str]:
    """Return texts that a repeat's body matches: several for one character: neighbours may match some."""
    if len(body) == 1 and body[0][0] in {kind.IN, kind.ANY, kind.NOT_LITERAL}:
        return [one for one in CANDIDATES if _matches(body[0], one)] or [_shortest(body)]
    return [text for text in (_shortest(body),) if text]


def _shortest(items: Any) -> str:
    """Return a short text that a part of a pattern matches, apart from assertions."""
    text = ""
    for item, value in items:
        if item is kind.LITERAL:
            text += chr(value)
        elif item in {kind.IN, kind.ANY, kind.NOT_LITERAL}:
            text += next((one for one in CANDIDATES if _matches((item, value), one)), None) or _member(value)
        elif item in REPEATS:
            least, _, body = value
            text += _shortest(body) * least
        elif item is kind.BRANCH:
            text += _shortest(value[1][0])
        elif item is kind.SUBPATTERN or item is getattr(kind, "ATOMIC_GROUP", None):
            text += _shortest(_inner(item, value)[0])
    return text


def _member(value: Any) -> str:
    item, inner = value[0]
    return chr(inner[0] if item is kind.RANGE else inner)


def _matches(item: tuple[Any, Any], character: str) -> bool:
    name, value = item
    code = ord(character)
    if name is kind.ANY:
        return character != "\n"
    if name is kind.NOT_LITERAL:
        return bool(code != value)
    members = [one for one in value if one[0] is not kind.NEGATE]
    inside = any(
        (what is kind.LITERAL and inner == code)
        or (what is kind.RANGE and inner[0] <= code <= inner[1])
        or (what is kind.CATEGORY and re.match(CATEGORIES[inner], character) is not None)
        for what, inner in members
    )
    return inside != (len(members) < len(value))
