"""Phrases for messages and hints."""

from __future__ import annotations

from collections.abc import Iterable

from sparkfleet.suggest import did_you_mean


def near(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a suggestion for a flag, value, key or variable; "" if no name is close, or for a number."""
    return "" if name.isdigit() else did_you_mean(name, map(str, names), "", cutoff, 2, other_numbers=True)


def listing(names: Iterable[object], most: int = 12) -> str:
    """Return names as one readable list, shortened when there are many."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def either(*hints: str) -> str:
    """Return the first hint that is not empty."""
    return next((hint for hint in hints if hint), "")
