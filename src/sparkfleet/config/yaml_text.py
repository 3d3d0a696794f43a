"""Plain data as YAML that people read: block style, JSON's quoting, the order of the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Words that one version of YAML or another takes for something else than text."""


def dump(data: dict[str, Any]) -> str:
    """Return the mapping as a YAML document."""
    return "".join(_mapping(data, 0))


def scalar(value: Any) -> str:
    """Return a value on one line; JSON is YAML, and words stand bare where they are safe."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)


def _mapping(data: dict[str, Any], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield f"{pad}{scalar(key)}:\n"
            yield from _mapping(value, depth + 1)
        elif isinstance(value, list) and value:
            yield f"{pad}{scalar(key)}:\n"
            for item in value:
                yield from _item(item, depth + 1)
        else:
            yield f"{pad}{scalar(key)}: {scalar(value)}\n"


def _item(item: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(item, dict) and item:
        first, *rest = _mapping(item, depth + 1)
        yield f"{pad}- {first.lstrip()}"
        yield from rest
    else:
        yield f"{pad}- {scalar(item)}\n"
