"""One thing found in a command line or an environment, and helpers to say it well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sparkfleet.suggest import closest

Level = Literal["error", "warning", "info"]
"""error: the engine will not start; warning: not certain, without effect, or not what it seems; info."""


@dataclass(frozen=True)
class Finding:
    """One thing found."""

    level: Level
    code: str
    """Kind of finding, for programs: ``unknown-flag``, ``bad-choice`` ..."""
    flag: str
    """Canonical flag or environment variable; "" for the line as a whole."""
    text: str
    remedy: str = ""
    subject: str = ""
    """What it is about within the flag: the word, or the key."""


def near(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``did you mean X?`` for the nearest of the names; "" when none is near, or it is a number."""
    if name.isdigit():
        return ""
    close = closest(name, map(str, names), cutoff, 2)
    return f"did you mean {' or '.join(close)}?" if close else ""


def listing(names: Iterable[object], most: int = 12) -> str:
    """Return names as one readable list, shortened when there are many."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def either(*remedies: str) -> str:
    """Return the first remedy that says something."""
    return next((remedy for remedy in remedies if remedy), "")
