"""The one writer of YAML: plain data as block style, JSON's quoting, the order of the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


class OneLine(dict[str, Any]):
    """A mapping that is written on one line: ``{size: 7, url: "..."}``."""


@dataclass(frozen=True)
class Style:
    """Which strings need no quotes, and what is written on one line."""

    bare_key: re.Pattern[str]
    bare_value: re.Pattern[str]
    max_depth: int | None = None
    """Depth from which mappings are written on one line as JSON; None: never."""
    block_lists: bool = True
    """One item per line; False: a list is written on one line as JSON."""


_BARE = re.compile(r"(?!(?i:true|false|null|yes|no|on|off|y|n)\Z)[A-Za-z_/][A-Za-z0-9_./-]*")
"""Without strings that some version of YAML reads as another type."""
DEFAULT_STYLE = Style(_BARE, _BARE)


def dump(data: dict[str, Any], style: Style = DEFAULT_STYLE) -> str:
    """Return the mapping as a YAML document."""
    return "".join(_mapping(data, 0, style))


def _text(value: Any, bare: re.Pattern[str]) -> str:
    """Return a value on one line as JSON, without quotes for strings that match ``bare``."""
    if isinstance(value, str) and bare.fullmatch(value):
        return value
    if isinstance(value, OneLine):
        return "{" + ", ".join(f"{key}: {_text(item, bare)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _mapping(data: dict[str, Any], depth: int, style: Style) -> Iterator[str]:
    for key, value in data.items():
        label = "  " * depth + _text(key, style.bare_key)
        block = style.max_depth is None or depth < style.max_depth
        if isinstance(value, dict) and value and block and not isinstance(value, OneLine):
            yield f"{label}:\n"
            yield from _mapping(value, depth + 1, style)
        elif isinstance(value, list) and value and style.block_lists:
            yield f"{label}:\n"
            for item in value:
                yield from _item(item, depth + 1, style)
        else:
            yield f"{label}: {_text(value, style.bare_value)}\n"


def _item(item: Any, depth: int, style: Style) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(item, dict) and item:
        first, *rest = _mapping(item, depth + 1, style)
        yield f"{pad}- {first.lstrip()}"
        yield from rest
    else:
        yield f"{pad}- {_text(item, style.bare_value)}\n"
