"""Phrases for messages and hints."""

from __future__ import annotations

from collections.abc import Iterable

from sparkfleet.suggest import closest


def near(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``did you mean X?`` for the closest names; "" if none is close, or for a number."""
    if name.isdigit():
        return ""
    close = closest(name, map(str, names), cutoff, 2, other_numbers=True)
    return f"did you mean {' or '.join(close)}?" if close else ""


def listing(names: Iterable[object], most: int = 12) -> str:
    """Return names as one readable list, shortened when there are many."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def either(*hints: str) -> str:
    """Return the first hint that is not empty."""
    return next((hint for hint in hints if hint), "")
