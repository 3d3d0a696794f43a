"""Typed values of a flag's arguments, as vLLM's parser reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from sparkfleet.engines.vllm.schema import Flag

_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_HUMAN_IN_JSON = re.compile(r"(?<=[:,\[\s])\d+(?:\.\d+)?[kKmMgGtT](?=[\s,}\]])")
_POWER = {"k": 1, "m": 2, "g": 3, "t": 4}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def human_int(text: str) -> int:
    """Return the number: ``64k`` is 64000, ``64K`` is 65536, ``25.6k`` is 25600. ``ValueError`` otherwise."""
    match = _HUMAN.fullmatch(text.strip())
    if match is None:
        return int(text)
    number, suffix = match.groups()
    power = _POWER[suffix.lower()]
    if suffix.islower():
        return int(float(number) * 1000**power)
    if "." in number:
        raise ValueError(f"{text!r}: no decimals with K, M, G, T; {number}{suffix.lower()} is decimal")
    return int(int(number) * 1024**power)


def one(flag: Flag, word: str) -> Any:
    """Return the value of one argument of a flag. ``ValueError`` says what is wrong with it."""
    if flag.optional and word in ("", "None"):
        return None
    match flag.type:
        case "int":
            return int(word)
        case "float":
            return float(word)
        case "human_int":
            return human_int(word)
        case "human_int_or_auto":
            return -1 if word.strip().lower() in ("auto", "-1") else human_int(word)
        case "bool":
            return _boolean(word)
        case "json":
            return _json(word)
        case "config":
            return _config(word)
        case "json_or_str":
            return _json(word) if re.fullmatch(r"(?s)\s*\{.*\}\s*", word) else word
        case "name":
            return word.lower().replace("-", "_")
        case _:
            return word


def several(flag: Flag, args: Sequence[str]) -> Any:
    """Return the value of all arguments of a flag; what cannot be read stays text."""
    values = [_lenient(flag, word) for word in args]
    if flag.takes_several:
        return values
    return values[0] if values else True


def guess(args: Sequence[str]) -> Any:
    """Return the value of a flag that no schema knows: a JSON scalar or object where it reads as one."""
    values = [_plain(word) for word in args]
    if not values:
        return True
    return values[0] if len(values) == 1 else values


def _lenient(flag: Flag, word: str) -> Any:
    try:
        return one(flag, word)
    except ValueError:
        return word


def _boolean(word: str) -> bool:
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise ValueError(f"{word!r} is neither true nor false")


def _json(word: str) -> Any:
    try:
        return json.loads(word)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from error


def _config(word: str) -> Any:
    """Read the JSON of a nested config, in which bare numbers may be human-readable: ``{"size": 64K}``."""
    return _json(_HUMAN_IN_JSON.sub(lambda match: str(human_int(match[0])), word))


def _plain(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word
