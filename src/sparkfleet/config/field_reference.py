"""The keys of the YAML files as text, from the models that validate them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class Key:
    """One key of a YAML file."""

    path: str
    """With the keys above it: ``serve.gate.timeout``."""
    value: str
    """Kind of value: ``string or integer``."""
    default: str
    """As it would be written; "required", or "" for none."""
    description: str


def keys(model: type[BaseModel]) -> Iterator[Key]:
    """Yield the keys of one model, without those of nested mappings."""
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        yield Key(name, value_kind(properties[name]), _default(field), field.description or "")


def all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a model and of every mapping in it, each below the key that has it."""
    for key in keys(model):
        path = prefix + key.path
        yield Key(path, key.value, key.default, key.description)
        for nested in dict.fromkeys(_models(model.model_fields[key.path].annotation)):
            yield from all_keys(nested, f"{path}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def value_kind(described: dict[str, Any]) -> str:
    """Return the kind of value that a JSON Schema describes, as text."""
    if "anyOf" in described:
        kinds = [value_kind(one) for one in described["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in described:
        return ", ".join(f"`{one}`" for one in described["enum"])
    if "$ref" in described:
        return "mapping"
    names = {"string": "string", "integer": "integer", "number": "number", "boolean": "true, false"}
    match described.get("type"):
        case "array":
            return f"list of {value_kind(described.get('items', {}))}"
        case "object":
            return "mapping"
        case str(kind):
            return names.get(kind, kind)
    return "anything"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default in (None, PydanticUndefined, ()) or isinstance(default, BaseModel):
        return ""
    return f"`{json.dumps(default)}`"
