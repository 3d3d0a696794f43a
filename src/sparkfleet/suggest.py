"""Suggestions ("did you mean ...") for mistyped names."""

from __future__ import annotations

from collections.abc import Iterable


def closest(name: str, known: Iterable[str], cutoff: float = 0.6, count: int = 1) -> list[str]:
    """Return up to ``count`` known names, the closest first; case, "-" and "_" make no difference."""
    import difflib  # noqa: PLC0415  (2 ms, and only after a mistake)

    choices: dict[str, str] = {}
    for other in known:
        choices.setdefault(_folded(other), other)
    return [choices[found] for found in difflib.get_close_matches(_folded(name), choices, count, cutoff)]


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return "did you mean '...'?", or ``otherwise`` if no known name is close."""
    found = closest(name, known)
    return f"did you mean '{found[0]}'?" if found else otherwise


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
