"""Checks of JSON that a nested config is read from: its keys, and the types and choices of their values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.engines.vllm import history, renamed_flags
from sparkfleet.engines.vllm.phrases import either, listing, near
from sparkfleet.engines.vllm.schema import JsonClass, Schema

_NUMBER = re.compile(r"-?\d+(\.0*)?")


def check_config(flag: str, name: str, value: Any, schema: Schema) -> Iterator[Diagnostic]:
    """Find what is wrong with ``value`` as the nested config ``name`` of ``flag``."""
    config = schema.json_classes.get(name)
    if config is None:
        return
    if not isinstance(value, Mapping):
        text = f"{flag} takes a JSON object, not {_kind(value)}"
        yield Diagnostic(flag, text, hint="write it as a mapping", code="json-not-object")
        return
    for key, item in value.items():
        entry = config.fields.get(key)
        if entry is None or entry.get("init") is False:
            yield _unknown_key(flag, key, config, schema)
            continue
        spans = history.of_key_choice(config.name, key, item) if isinstance(item, str) else ()
        for finding in _check_value(f"{flag}.{key}", flag, entry["type"], item, schema):
            since = f" (it is {history.text(spans)})" if spans and finding.code == "json-bad-choice" else ""
            yield dataclasses.replace(finding, message=finding.message + since)


def _unknown_key(flag: str, key: str, config: JsonClass, schema: Schema) -> Diagnostic:
    spans = history.of_key(config.name, key)
    text = f"{flag}: vLLM {schema.version} has no key {key} there"
    text += f" (it was {history.text(spans)})" if spans else ""
    hint = either(
        renamed_flags.of_key(config.name, key),
        near(key, config.fields),
        "" if spans else f"its keys are {listing(config.fields)}",
        "remove it",
    )
    severity = Severity.ERROR if config.forbids_unknown else Severity.WARNING
    return Diagnostic(f"{flag} {key}", text, hint=hint, severity=severity, code="json-unknown-key")


def _check_value(path: str, flag: str, kind: Any, value: Any, schema: Schema) -> Iterator[Diagnostic]:
    nested = [name for name in _alternatives(kind) if isinstance(name, str) and name in schema.json_classes]
    if nested and isinstance(value, Mapping):
        yield from check_config(flag, nested[0], value, schema)
        return
    if _fits(kind, value, schema):
        names = _choices(kind, "enum_names")
        if names and isinstance(value, str) and not value.isdigit() and value.upper() not in names:
            text = f"{path}: {value!r} is not a name of vLLM {schema.version}"
            hint = either(near(value.upper(), names, 0.5), f"one of {listing(names)}")
            yield Diagnostic(
                f"{flag} {path}", text, hint=hint, severity=Severity.WARNING, code="json-unknown-name"
            )
        return
    choices = _choices(kind, "enum")
    if choices and isinstance(value, str):
        text = f"{path}: {value!r} is not a value of vLLM {schema.version}"
        hint = either(near(value, choices, 0.5), f"one of {listing(choices)}")
        yield Diagnostic(f"{flag} {path}", text, hint=hint, code="json-bad-choice")
        return
    text = f"{path}: {value!r} is not {_describe(kind)}"
    yield Diagnostic(f"{flag} {path}", text, hint=f"write {_describe(kind)}", code="json-bad-type")


def _choices(kind: Any, form: str) -> list[Any]:
    """Return the literals (``enum``) or names (``enum_names``) of a type; vLLM reads names in any case."""
    return [choice for one in _alternatives(kind) if isinstance(one, dict) for choice in one.get(form, ())]


def _alternatives(kind: Any) -> list[Any]:
    return list(kind["any"]) if isinstance(kind, dict) and "any" in kind else [kind]


def _fits(kind: Any, value: Any, schema: Schema) -> bool:
    """Return whether pydantic would read the value as that type; what is not known here fits."""
    if isinstance(kind, dict):
        return _fits_composed(kind, value, schema)
    if kind in schema.json_classes:
        return isinstance(value, Mapping)
    match kind:
        case "null":
            return value is None
        case "bool":
            return isinstance(value, bool) or value in (0, 1, "true", "false", "True", "False", "0", "1")
        case "int":
            return isinstance(value, int) or _is_whole(value)
        case "float":
            return isinstance(value, int | float) or _is_float(value)
        case "str" | "Path":
            return isinstance(value, str)
        case _:
            return True


def _fits_composed(kind: Mapping[str, Any], value: Any, schema: Schema) -> bool:
    if "any" in kind:
        return any(_fits(one, value, schema) for one in kind["any"])
    if "enum" in kind:
        return value in kind["enum"]
    if "list" in kind or "set" in kind:
        inner = [*kind.get("list", []), *kind.get("set", [])]
        return isinstance(value, list) and all(_fits(inner[0], item, schema) for item in value if inner)
    if "dict" in kind:
        return isinstance(value, Mapping)
    return True


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, str) and _NUMBER.fullmatch(value.strip()) is not None


def _is_float(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


_TYPE_NAMES = {
    "null": "null",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "Path": "a path",
}


def _describe(kind: Any) -> str:
    if isinstance(kind, dict):
        if "any" in kind:
            return " or ".join(_describe(one) for one in kind["any"])
        if "enum" in kind:
            return f"one of {listing(kind['enum'])}"
        return "a mapping" if "dict" in kind else "a list"
    return _TYPE_NAMES.get(kind, "a mapping")


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false"}.get(type(value), f"{value!r}")
