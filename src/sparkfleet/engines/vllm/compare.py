"""What differs between two command lines, by meaning: order, spelling and defaults are no difference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparkfleet.engines.base import FlagChange
from sparkfleet.engines.vllm.args import parse
from sparkfleet.engines.vllm.schema import Flag, Schema

_ABSENT = object()


def differences(
    old_args: Sequence[str],
    new_args: Sequence[str],
    schema: Schema | None,
    old_schema: Schema | None = None,
) -> tuple[FlagChange, ...]:
    """Return what the new words tell ``vllm serve`` other than the old ones, in the order of the new words.

    ``schema`` reads both sides, unless the old side ran another vLLM and ``old_schema`` is given. A default
    that changed between two releases is not a difference of the words: see ``upgrade``.
    """
    if list(old_args) == list(new_args) and old_schema in (None, schema):
        return ()  # nearly always: a plan is mostly of Sparks that are as declared
    old, new = parse(old_args, old_schema or schema), parse(new_args, schema)
    changes = [FlagChange("model", old.model or None, new.model or None)] if old.model != new.model else []
    for name in dict.fromkeys([*new.values, *old.values]):
        flag = schema.flags.get(name) if schema else None
        before, after = old.values.get(name, _ABSENT), new.values.get(name, _ABSENT)
        if _same(flag, schema, before, after):
            continue
        changes.append(FlagChange(name, *_texts(before, after)))
    return tuple(changes)


def _same(flag: Flag | None, schema: Schema | None, old: Any, new: Any) -> bool:
    if flag is None or schema is None:
        return _equal(old, new)
    return _equal(_effective(flag, schema, old), _effective(flag, schema, new))


def _effective(flag: Flag, schema: Schema, value: Any) -> Any:
    """Return the value that the engine works with: the default where the flag is not given."""
    if value is _ABSENT:
        value = flag.default
    nested = schema.json_classes.get(flag.json_class)
    if nested is not None and isinstance(value, dict):
        defaults = {key: entry.get("default") for key, entry in nested.fields.items()}
        return {
            key: item for key, item in value.items() if key not in defaults or not _equal(item, defaults[key])
        }
    return value


def _equal(old: Any, new: Any) -> bool:
    """Equality in which true is not 1, as 1.0 is 1."""
    if isinstance(old, bool) != isinstance(new, bool):
        return False
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_equal(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_equal, old, new))
    return bool(old == new)


def _texts(old: Any, new: Any) -> tuple[str | None, str | None]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return _text(old), _text(new)
    before, after = dict(_leaves(old)), dict(_leaves(new))
    differing = [
        path
        for path in dict.fromkeys([*after, *before])
        if not _equal(before.get(path, _ABSENT), after.get(path, _ABSENT))
    ]
    return _pairs(before, differing), _pairs(after, differing)


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _pairs(leaves: Mapping[str, Any], paths: Sequence[str]) -> str:
    return " ".join(f"{path}={_text(leaves[path])}" for path in paths if path in leaves)


def _text(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and not any(isinstance(item, list | dict) for item in value):
        return " ".join(str(_text(item)) for item in value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
