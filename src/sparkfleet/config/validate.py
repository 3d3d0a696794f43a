"""Validates plain data against a model; every deviation becomes a Diagnostic with its place."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sparkfleet.config.yaml_file import Path_
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.suggest import did_you_mean

M = TypeVar("M", bound=BaseModel)
Where = Callable[[Path_], str]
"""Returns ``file:line`` of a value."""

_SECRET = frozenset({"hf_token", "password", "sudo_password"})
"""Keys whose value is never shown: it may be the secret itself by mistake."""

_RENAMED = {
    "allow": "ignore_rules",
    "bootstrap": "rendezvous",
    "bundle": "mirror",
    "facts": "model_info",
    "floor_gib": "min_available_gib",
    "needs": "requires",
    "old_caches": "compile_cache_retention",
    "own": "chown_contents_max",
}
"""Renamed keys: old -> new."""

_HINTS = {
    "environment": "use 'env'",
    "host": "use `ssh: {hostname: ADDRESS}`",
    "hostname": "use `ssh: {hostname: ADDRESS}`",
    "password": "log in by key (`ssh-copy-id`); the password for sudo is 'sudo_password'",
    "restart": "remove it: the service's systemd unit restarts the container",
    "user": "use `ssh: {user: NAME}`",
    "volumes": "use `container: {mounts: ...}`",
}
"""Keys of Compose and of Ansible that are no keys here -> what to write."""

_PATTERNS = {
    "name": "at most 63 lower-case letters, digits, '.' and '-', starting with a letter or digit",
    "recipe": "at most 63 lower-case letters, digits, '.' and '-', starting with a letter or digit",
    "extends": "the name of a recipe",
    "revision": "a commit: 7 to 40 hex digits",
    "model": "a Hugging Face repository: organisation/name",
    "source": "a path on the Spark, absolute or starting with ~, without ',', ':' or spaces",
    "models_dir": "a path on the Spark, absolute or starting with ~, without ',', ':' or spaces",
    "cache_dir": "a path on the Spark, absolute or starting with ~, without ',', ':' or spaces",
    "target": "an absolute path in the container, without ',', ':' or spaces",
    "timeout": "a duration: 30m, 1h30m, 1800s or a number of seconds",
    "hf_token": "where the token comes from: env:NAME, file:PATH or command:COMMAND",
    "sudo_password": "where the password comes from: env:NAME, file:PATH, command:COMMAND or ask",
}

_TYPES = {
    "string_too_short": "a non-empty string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def validate(model: type[M], data: Any, where: Where, base: Path_ = ()) -> M:
    """Return the data as a model; raise ``SparkfleetError`` with every deviation.

    ``base`` is the path of ``data`` in the document of ``where``. Strict: strings and numbers are not
    converted into each other.
    """
    try:
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise SparkfleetError(*_diagnostics(model, data, error, where, base)) from None
    except (TypeError, ValueError, RecursionError):
        raise SparkfleetError(
            Diagnostic(
                where(base),
                "the value is not plain data",
                "strings, numbers, booleans, lists and dicts",
                "replace it by plain data",
                code="yaml-invalid-value",
            )
        ) from None


def describe(value: Any) -> str:
    """Return the description of a value for an error: type and short text."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"  # noqa: PLR2004
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return f"a {type(value).__name__}"


def _diagnostics(
    model: type[BaseModel], data: Any, error: ValidationError, where: Where, base: Path_
) -> list[Diagnostic]:
    # A union reports an error for each of its members; they belong to one mistake at one path.
    found: dict[Path_, list[Any]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_path(data, detail), []).append(detail)
    diagnostics = []
    for path, details in found.items():
        # Deeper errors of the same union member explain more than "not the other member".
        if any(len(other) > len(path) and other[: len(path)] == path for other in found) and path:
            continue
        diagnostics.append(_diagnostic(model, data, path, details, where=where, base=base))
    return diagnostics


def _path(data: Any, detail: Any) -> Path_:
    """Return the part of pydantic's location that exists in the data."""
    path: list[str | int] = []
    for part in detail["loc"]:
        keys_here = range(len(data)) if isinstance(data, list) else data if isinstance(data, dict) else ()
        if part not in keys_here:
            break
        data = data[part]
        path.append(part)
    return tuple(path)


def _diagnostic(
    model: type[BaseModel], data: Any, path: Path_, details: list[Any], *, where: Where, base: Path_
) -> Diagnostic:
    first = details[0]
    value = data
    for part in path:
        value = value[part]
    place = where((*base, *path))
    name = str(path[-1]) if path else ""
    label = dotted((*base, *path))
    if first["type"] == "extra_forbidden":
        known = keys(model, path[:-1])
        renamed = _RENAMED.get(name, "")
        remedy = _HINTS.get(name) or did_you_mean(name, known, "remove it, or see `sparkfleet schema`")
        if renamed in known:
            remedy = f"'{name}' is now called '{renamed}'"
        return Diagnostic(
            place, f"unknown key '{label}'", f"one of: {', '.join(known)}", remedy, code="yaml-unknown-key"
        )
    if first["type"] == "missing":
        missing = str(first["loc"][-1])
        inside = f" in '{label}'" if label else ""
        return Diagnostic(
            place,
            f"missing key '{missing}'{inside}",
            f"{missing}: ...",
            f"add '{missing}:'",
            code="yaml-missing-key",
        )
    shown = "a value (not shown: it may be a secret)" if name in _SECRET else describe(value)
    return Diagnostic(
        place,
        f"'{label or 'the file'}' is {shown}",
        _expected(details, name),
        _remedy(details, value),
        code="yaml-invalid-value",
    )


def _expected(details: list[Any], name: str) -> str:
    kinds = {detail["type"] for detail in details}
    if "string_pattern_mismatch" in kinds and name in _PATTERNS:
        return _PATTERNS[name]
    texts: list[str] = []
    for detail in details:
        context = detail.get("ctx", {})
        match detail["type"]:
            case "string_pattern_mismatch":
                text = f"a string that matches {context['pattern']}"
            case "literal_error":
                text = context["expected"].replace("'", "")
            case "greater_than_equal":
                text = f"at least {context['ge']:g}"
            case "less_than_equal":
                text = f"at most {context['le']:g}"
            case kind:
                text = _TYPES.get(kind, str(detail["msg"]))
        if text not in texts:
            texts.append(text)
    if "a number" in texts and "an integer" in texts:
        texts.remove("an integer")
    return " or ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def _remedy(details: list[Any], value: Any) -> str:
    kinds = {detail["type"] for detail in details}
    if "string_type" in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return f'put it in quotes: "{value}"'
    wants_plain = kinds & {"int_type", "float_type", "bool_type"} and "string_type" not in kinds
    if wants_plain and isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?|true|false", value):
        return "write it without quotes"
    return "change the value"


def dotted(path: Path_) -> str:
    """Return a path in dotted notation: ``serve[0].flags.max-model-len``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def keys(model: type[BaseModel], path: Path_) -> list[str]:
    """Return the valid keys at that path of a model, sorted."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        current = _model_in(field.annotation) if field else None
    return sorted(current.model_fields) if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple, list, dict, Annotated):
        for part in get_args(annotation):
            if get_origin(part) is not Literal and (found := _model_in(part)):
                return found
    return None
