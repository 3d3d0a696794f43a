"""Reading what an engine answers: model lists, completions, errors, counters. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any


def models(body: str) -> list[dict[str, Any]]:
    """Return the models of a ``/v1/models`` answer."""
    try:
        data = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError):
        return []
    return [model for model in data if isinstance(model, dict)] if isinstance(data, list) else []


def token_limit(listed: Iterable[dict[str, Any]], wanted: int) -> int:
    """Return how many tokens may be asked for: a short context has to hold the question, too."""
    lengths = [int(model["max_model_len"]) // 2 for model in listed if model.get("max_model_len")]
    return max(1, min([wanted, *lengths]))


def completion(body: str) -> str:
    """Return the text of a chat or plain completion; thinking counts as answer."""
    try:
        choice = json.loads(body)["choices"][0]
        message = choice.get("message") or {}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ""
    parts = [message.get(key) for key in ("reasoning_content", "reasoning", "content")]
    return "\n".join(part for part in (*parts, choice.get("text")) if isinstance(part, str) and part)


def error(body: str) -> str:
    """Return the message of an error answer, or the answer itself."""
    try:
        data = json.loads(body)
        return str((data.get("error") or data)["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return body


def short(text: str, limit: int = 300) -> str:
    """Return ``text`` cut to ``limit`` characters."""
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def counters(metrics: str, names: Iterable[str]) -> dict[str, float]:
    """Return the named counters of a Prometheus text, each summed over its labels."""
    wanted = set(names)
    found: dict[str, float] = {}
    for name, value in re.findall(r"^([\w:]+)(?:\{.*\})? ([-+.\deE]+)$", metrics, re.MULTILINE):
        if name in wanted:
            found[name] = found.get(name, 0.0) + float(value)
    return found
