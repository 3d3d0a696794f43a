"""Prometheus metrics, token limits, vectors, text for messages. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress


def token_limit(contexts: Iterable[int], limit: int) -> int:
    """Return the number of tokens to request: at most half of a short context, which has the prompt, too."""
    return max(1, min([limit, *(context // 2 for context in contexts if context)]))


def short(text: str, limit: int = 300) -> str:
    """Return ``text`` cut to ``limit`` characters."""
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def vector_problem(vector: Sequence[float], dimensions: int) -> str:
    """Return why a vector cannot be an embedding of that many dimensions (0: any), "" when it can."""
    if not vector:
        return "the response has no vector"
    broken = sum(not math.isfinite(number) for number in vector)
    if broken:
        return f"{broken} of its {len(vector)} numbers are not finite"
    if not any(vector):
        return f"all of its {len(vector)} numbers are 0"
    if dimensions and len(vector) != dimensions:
        return f"it has {len(vector)} dimensions, expected {dimensions}"
    return ""


def cosine(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors; NaN when they have none."""
    lengths = math.hypot(*one) * math.hypot(*two)
    if len(one) != len(two) or not lengths:
        return math.nan
    return sum(first * second for first, second in zip(one, two, strict=True)) / lengths


def counters(metrics: str, names: Iterable[str]) -> dict[str, float]:
    """Return the named counters of a Prometheus text, each summed over its labels."""
    known = set(names)
    found: dict[str, float] = {}
    for name, value in re.findall(r"^([\w:]+)(?:\{.*\})? ([-+.\deE]+)$", metrics, re.MULTILINE):
        if name in known:
            with suppress(ValueError):  # not a number after all: "e", "1.2.3"
                found[name] = found.get(name, 0.0) + float(value)
    return found
