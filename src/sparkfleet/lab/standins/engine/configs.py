"""The nested configs of the release as dataclasses, for those who ask the parser what a JSON flag takes.

Named and typed as the real classes are, as far as the schema tells; they hold no values.
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
    """Return the class of that name; None: this release describes none."""
    fields = release.load().json_classes.get(name)
    if fields is None:
        return None
    made = [(key, hint(said["type"]), _field(said)) for key, said in fields.items() if key != "__extra__"]
    settings = {"__pydantic_config__": {"extra": fields["__extra__"]}}
    return dataclasses.make_dataclass(name, made, namespace=settings, eq=False, kw_only=True)


def _field(said: dict[str, Any]) -> Any:
    default, init = said["default"], said.get("init", True)
    if default == "<required>":
        return dataclasses.field(init=init)
    if default == "<factory>" or isinstance(default, (dict, list)):
        return dataclasses.field(init=init, default_factory=dict)
    return dataclasses.field(init=init, default=default)


def hint(said: Any) -> Any:
    """Return the type that a schema's description stands for."""
    if isinstance(said, str):
        return _PLAIN.get(said) or type(said, (), {})
    ((kind, parts),) = said.items()
    if kind == "enum":
        return typing.cast("Any", typing.Literal)[tuple(parts)]
    if kind == "enum_names":
        return enum.Enum("Names", list(parts))
    inner = tuple(hint(part) for part in parts)
    if kind == "any":
        return typing.cast("Any", typing.Union)[inner]
    return _GENERIC[kind][inner] if inner else _GENERIC[kind]
