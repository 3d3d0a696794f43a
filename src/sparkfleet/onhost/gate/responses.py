"""Prometheus metrics, token limits, text for messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable


def token_limit(contexts: Iterable[int], limit: int) -> int:
    """Return the number of tokens to request: at most half of a short context, which has the prompt, too."""
    return max(1, min([limit, *(context // 2 for context in contexts if context)]))


def short(text: str, limit: int = 300) -> str:
    """Return ``text`` cut to ``limit`` characters."""
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def counters(metrics: str, names: Iterable[str]) -> dict[str, float]:
    """Return the named counters of a Prometheus text, each summed over its labels."""
    known = set(names)
    found: dict[str, float] = {}
    for name, value in re.findall(r"^([\w:]+)(?:\{.*\})? ([-+.\deE]+)$", metrics, re.MULTILINE):
        if name in known:
            found[name] = found.get(name, 0.0) + float(value)
    return found
