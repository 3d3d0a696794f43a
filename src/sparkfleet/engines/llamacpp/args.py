"""The arguments of ``llama-server``: rendered from flags, parsed back, compared by meaning.

``llama-server`` reads ``--flag value`` only; ``--flag=value`` is an unknown argument. ``_`` and ``-``
are the same in long names. A flag that is given twice counts once, with its last value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkfleet.engines.base import FlagChange, value_text
from sparkfleet.engines.llamacpp.schema import Flag, Schema

FlagValue = bool | int | float | str | list[Any] | dict[str, Any] | None

_TRUE = frozenset({"on", "enabled", "true", "1"})
_FALSE = frozenset({"off", "disabled", "false", "0"})
_AUTO = frozenset({"auto", "-1"})


@dataclass(frozen=True)
class Parsed:
    """A command line by meaning."""

    values: Mapping[str, Any]
    """Canonical flag -> value, in the order of the command line."""
    unknown: tuple[str, ...] = ()
    """Arguments that this release does not accept."""
    incomplete: tuple[str, ...] = ()
    """Flags at the end of the line whose value is missing."""


def canonical(key: str, schema: Schema) -> str:
    """Return a flag's canonical name for a key as users write it: ``ctx_size``, ``c``, ``--ctx-size``."""
    bare = key.lstrip("-")
    long = f"--{bare.replace('_', '-')}"
    flag = schema.options.get(long) or schema.options.get(f"-{bare}")
    if flag is None or long in flag.negatives:
        return long
    return flag.name


def render(flags: Mapping[str, FlagValue], schema: Schema) -> tuple[str, ...]:
    """Return the arguments for flags, in their order.

    True is the bare flag (``on`` where the flag takes on, off or auto), False its ``--no-`` form (nothing,
    where it has none), None leaves the flag out, a list is joined by commas, a mapping is JSON.
    """
    arguments: list[str] = []
    for key, value in flags.items():
        name = canonical(key, schema)
        flag = schema.options.get(name)
        if value is None:
            continue
        if isinstance(value, bool) and not (flag and flag.takes_value):
            arguments += _switch(name, flag, on=value)
        elif flag is not None and flag.kind == "two_values" and isinstance(value, list):
            arguments += [name, *map(value_text, value)]
        else:
            arguments += [name, _value_text(flag, value)]
    return tuple(arguments)


def parse(arguments: Sequence[str], schema: Schema) -> Parsed:
    """Return what the arguments mean. Nothing raises: what cannot be read stays text."""
    values: dict[str, Any] = {}
    unknown: list[str] = []
    incomplete: list[str] = []
    rest = list(arguments)
    while rest:
        option = _normalised(rest.pop(0))
        flag = schema.options.get(option)
        if flag is None:
            unknown.append(option)
            if rest and option.startswith("-") and not rest[0].startswith("-"):
                values[option] = rest.pop(0)
            continue
        if not flag.takes_value:
            values[flag.name] = option not in flag.negatives
            continue
        count = 2 if flag.kind == "two_values" else 1
        if len(rest) < count:
            incomplete.append(option)
            break
        texts = [rest.pop(0) for _ in range(count)]
        values[flag.name] = read_value(flag, texts[0]) if count == 1 else texts
    return Parsed(values, tuple(unknown), tuple(incomplete))


def differences(
    old_arguments: Sequence[str], new_arguments: Sequence[str], old_schema: Schema, new_schema: Schema
) -> tuple[FlagChange, ...]:
    """Return the flags that differ by meaning: order, spelling and defaults are no difference."""
    if list(old_arguments) == list(new_arguments):
        return ()
    old, new = parse(old_arguments, old_schema).values, parse(new_arguments, new_schema).values
    changes = []
    for name in dict.fromkeys([*new, *old]):
        before = old.get(name, _default(old_schema, name))
        after = new.get(name, _default(new_schema, name))
        if before != after or isinstance(before, bool) != isinstance(after, bool):
            changes.append(FlagChange(name, _shown(old, name), _shown(new, name)))
    return tuple(changes)


def read_value(flag: Flag, text: str) -> Any:
    """Return the typed value of a flag's text; the text itself if it has another type."""
    if flag.type in ("tristate", "on_off"):
        for value, spellings in (("on", _TRUE), ("off", _FALSE), ("auto", _AUTO)):
            if text in spellings:
                return value
        return text
    try:
        if flag.type == "int" or (flag.type == "int_or_word" and text not in flag.choices):
            return int(text)
        if flag.type == "float":
            return float(text)
    except ValueError:
        pass
    return text


def _normalised(option: str) -> str:
    return option.replace("_", "-") if option.startswith("--") else option


def _default(schema: Schema, name: str) -> Any:
    """Return the default of a flag; None if unknown."""
    flag = schema.flags.get(name)
    if flag is None:
        return None
    if flag.kind == "switch":
        return False
    if flag.kind == "bool":
        return flag.default in ("enabled", "true") if flag.default else None
    return read_value(flag, flag.default) if flag.default else None


def _switch(name: str, flag: Flag | None, *, on: bool) -> list[str]:
    if on:
        return [name]
    if flag is None:
        return [f"--no-{name.removeprefix('--')}"]
    long = [negative for negative in flag.negatives if negative.startswith("--")]
    return (long or list(flag.negatives))[:1]


def _value_text(flag: Flag | None, value: FlagValue) -> str:
    if isinstance(value, bool) and flag is not None and flag.type in ("tristate", "on_off"):
        return "on" if value else "off"
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return ",".join(map(value_text, value))
    return value_text(value)


def _shown(values: Mapping[str, Any], name: str) -> str | None:
    if name not in values:
        return None
    value = values[name]
    return " ".join(value) if isinstance(value, list) else value_text(value)
