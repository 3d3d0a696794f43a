"""The nested configs of a release: the classes, and errors in values for them.

The classes have the names and types of the real ones, as far as the schema has them, and hold no values. They
are for checks that read from the parser what a JSON flag accepts.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from typing import Any

from . import release

_PLAIN: dict[str, Any] = {
    "Any": Any, "bool": bool, "dict": dict, "float": float, "int": int, "null": type(None), "str": str,
}  # fmt: skip
_GENERIC: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "dict": dict}


@functools.cache
def config(name: str) -> type[Any] | None:
    """Return the class of that name; None if this release has no description of it."""
    fields = release.load().json_classes.get(name)
    if fields is None:
        return None
    fields_of_class = [
        (key, hint(description["type"]), _field(description))
        for key, description in fields.items()
        if key != "__extra__"
    ]
    settings = {"__pydantic_config__": {"extra": fields["__extra__"]}}
    return dataclasses.make_dataclass(name, fields_of_class, namespace=settings, eq=False, kw_only=True)


def _field(description: dict[str, Any]) -> Any:
    default, init = description["default"], description.get("init", True)
    if default == "<required>":
        return dataclasses.field(init=init)
    if default == "<factory>" or isinstance(default, (dict, list)):
        return dataclasses.field(init=init, default_factory=dict)
    return dataclasses.field(init=init, default=default)


def hint(description: Any) -> Any:
    """Return the type of a schema's description."""
    if isinstance(description, str):
        return _PLAIN.get(description) or type(description, (), {})
    ((kind, parts),) = description.items()
    if kind == "enum":
        return typing.cast("Any", typing.Literal)[tuple(parts)]
    if kind == "enum_names":
        return enum.Enum("Names", list(parts))
    inner = tuple(hint(part) for part in parts)
    if kind == "any":
        return typing.cast("Any", typing.Union)[inner]
    return _GENERIC[kind][inner] if inner else _GENERIC[kind]


def diagnostic(name: str, value: Any) -> str:
    """Return pydantic's text about values that a config class rejects; "" if there are none."""
    fields = release.load().json_classes.get(name)
    if fields is None or value is None:
        return ""
    if not isinstance(value, dict):
        return f"1 validation error for {name}\n  Input should be an object {_input('dataclass_type', value)}"
    errors = []
    for key, item in value.items():
        if key == "__extra__" or not fields.get(key, {"init": False}).get("init", True):
            if fields.get("__extra__") == "forbid":
                errors += [
                    key,
                    f"  Unexpected keyword argument {_input('unexpected_keyword_argument', item)}",
                ]
        elif not _fits(fields[key]["type"], item):
            errors += [key, f"  Input should be valid {_input('value_error', item)}"]
    count = len(errors) // 2
    head = f"{count} validation error{'s' if count > 1 else ''} for {name}"
    return "\n".join([head, *errors]) if errors else ""


def _input(kind: str, value: Any) -> str:
    more = f"\n    For further information visit https://errors.pydantic.dev/2.12/v/{kind}"
    return f"[type={kind}, input_value={value!r}, input_type={type(value).__name__}]{more}"


def _fits(description: Any, value: Any) -> bool:
    """Return whether pydantic would read a JSON value as that type; unknown types accept anything."""
    if isinstance(description, str):
        check = _CHECKS.get(description)
        return check is None or check(value)
    ((kind, parts),) = description.items()
    if kind == "any":
        return any(_fits(part, value) for part in parts)
    if kind == "enum":
        return value in parts
    if kind == "enum_names":
        return True
    if kind == "dict":
        return isinstance(value, dict)
    return isinstance(value, list) and (len(parts) != 1 or all(_fits(parts[0], item) for item in value))


def _number(value: Any, *, whole: bool) -> bool:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False
    if isinstance(value, bool):
        return True
    return isinstance(value, (int, float)) and (not whole or float(value).is_integer())


_BOOLEANS = ("true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0")
_CHECKS = {
    "bool": lambda value: value in (0, 1) or str(value).lower() in _BOOLEANS,
    "dict": lambda value: isinstance(value, dict),
    "float": lambda value: _number(value, whole=False),
    "int": lambda value: _number(value, whole=True),
    "null": lambda value: value is None,
    "str": lambda value: isinstance(value, str),
}
