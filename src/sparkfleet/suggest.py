"""Suggestions ("did you mean ...") for mistyped names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

SHORTEST_PREFIX = 3
"""A shorter beginning of a name says too little."""


_MEANT = {
    "apply": "converge deploy install run start up",
    "catalog": "models recipes search",
    "check": "lint validate verify",
    "diagnose": "debug troubleshoot why",
    "env": "environment envs variables vars",
    "explain": "describe help info",
    "flags": "args arguments engine_args extra_args options params",
    "gate": "readiness",
    "init": "create new setup",
    "knowledge": "update upgrade",
    "lock": "freeze pin",
    "mirror": "download fetch",
    "plan": "diff dry_run preview",
    "prune": "clean cleanup gc",
    "render": "compose export",
    "revision": "branch commit sha",
    "serve": "services",
    "status": "doctor health list ls ps",
}
"""A command or key -> what other tools call it."""


def closest(
    name: str, known: Iterable[str], cutoff: float = 0.6, count: int = 1, *, other_numbers: bool = False
) -> list[str]:
    """Return up to ``count`` known names, the closest first; case, "-" and "_" make no difference.

    A name with other numbers (``spark-03`` for ``spark-99``) is another host or version: no suggestion unless
    ``other_numbers``, for values of flags (``fp8`` for ``fp9``).
    """
    import difflib  # noqa: PLC0415  (2 ms, and only after a mistake)

    choices: dict[str, str] = {}
    for other in known:
        if other_numbers or not _differs_by_number(name, other):
            choices.setdefault(_folded(other), other)
    return [choices[found] for found in difflib.get_close_matches(_folded(name), choices, count, cutoff)]


def did_you_mean(
    name: str,
    known: Iterable[str],
    otherwise: str = "",
    cutoff: float = 0.6,
    count: int = 1,
    *,
    other_numbers: bool = False,
    show: Callable[[str], str] = repr,
) -> str:
    """Return "did you mean '...'?", or ``otherwise`` if no known name is close or begins with this one.

    The other arguments are those of ``closest``; ``show`` returns a known name as the text has it.
    """
    names = list(known)
    guesses = (
        _by_meaning(name, names)
        or closest(name, names, cutoff, count, other_numbers=other_numbers)
        or _longer(name, names)
    )
    return f"did you mean {' or '.join(map(show, guesses))}?" if guesses else otherwise


def _by_meaning(name: str, known: Iterable[str]) -> list[str]:
    """Return the known name that other tools call so."""
    return [other for other in known if _folded(name) in _MEANT.get(_folded(other), "").split()]


def _longer(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` known names that begin with a name of which the end is missing."""
    longer = (
        other
        for other in known
        if _folded(other).startswith(_folded(name)) and not _differs_by_number(name, other)
    )
    return sorted(longer)[:count] if len(name) >= SHORTEST_PREFIX else []


def _differs_by_number(name: str, other: str) -> bool:
    """Return whether only numbers differ; ``spark-1`` and ``spark-01`` have the same number."""
    one, two = re.split(r"(\d+)", _folded(name)), re.split(r"(\d+)", _folded(other))
    numbers = [list(map(int, parts[1::2])) for parts in (one, two)]
    return one[::2] == two[::2] and numbers[0] != numbers[1]


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
