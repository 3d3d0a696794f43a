"""vLLM's readers of flag values. A wrong value raises an error that argparse turns into exit code 2.

The readers have the names of vLLM's own, which appear in error texts and identify a parser's types.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any

from . import configs

Reader = Callable[[str], Any]

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def human_readable_int(text: str) -> int:
    """Read 64K (binary), 64k (decimal) or plain digits."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
    if not found:
        return int(text)
    number, suffix = found[1], found[2]
    if suffix in _DECIMAL:
        return int(float(number) * _DECIMAL[suffix])
    if "." in number:
        raise argparse.ArgumentTypeError(
            f"Decimals are not allowed with binary suffixes like {suffix}. Did you mean to use "
            f"{number}{suffix.lower()} instead?"
        )
    return int(number) * _BINARY[suffix]


def human_readable_int_or_auto(text: str) -> int:
    """Read an integer, or ``auto`` as -1."""
    return -1 if text.strip().lower() in ("-1", "auto") else human_readable_int(text)


def loads(text: str) -> Any:
    """Read JSON; named as vLLM's own reader is in error texts."""
    return json.loads(text)


def union_dict_and_str(text: str) -> Any:
    """Read a JSON object, or return the text as it is."""
    return converted(loads)(text) if re.match(r"(?s)^\s*{.*}\s*$", text) else text


def converted(reader: Reader) -> Reader:
    """Wrap a reader so that its error has vLLM's wording."""

    def _parse_type(text: str) -> Any:
        try:
            return reader(text)
        except ValueError as error:
            shown = "<class 'int'>" if reader is int else "<class 'float'>" if reader is float else reader
            raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to {shown}.") from error

    return _parse_type


def optional(reader: Reader) -> Reader:
    """Wrap a reader so that "" and ``None`` mean no value."""
    inner = converted(reader)

    def _optional_type(text: str) -> Any:
        return None if text in ("", "None") else inner(text)

    return _optional_type


def config(name: str) -> Reader:
    """Return the reader of a nested config that is written as JSON."""
    cls = configs.config(name)

    def parse_dataclass(text: str, _cls: type[Any] | None = cls) -> Any:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"1 validation error for {name}\n  Invalid JSON: {error} [type=json_invalid, "
                f"input_value={text!r}, input_type=str]"
            ) from error
        if diagnostic := configs.diagnostic(name, value):
            raise argparse.ArgumentTypeError(diagnostic)
        return value

    return parse_dataclass


def reader(kind: str, choices: list[Any] | None) -> Reader | None:
    """Return the reader for a type as the schema names it; None: the text as it is."""
    if kind.startswith("optional:"):
        return optional(reader(kind.removeprefix("optional:"), None) or str)
    if kind.startswith("json:"):
        return config(kind.removeprefix("json:"))
    if not kind:
        return None
    if kind.startswith("enum:"):
        return str
    if kind == "<lambda>":
        return (lambda text: text.lower().replace("-", "_")) if choices else (lambda text: text)
    readers: dict[str, Reader] = {
        "int": int,
        "float": float,
        "human_readable_int": human_readable_int,
        "human_readable_int_or_auto": human_readable_int_or_auto,
        "json": converted(loads),
        "json_or_str": union_dict_and_str,
    }
    return readers.get(kind, str)
