"""JSON Schema of the YAML files, from the models that validate them."""

from __future__ import annotations

from typing import Any

from sparkfleet.config.base import Model
from sparkfleet.config.models import ClusterFile, Defaults, HostFile, Recipe

KINDS: dict[str, type[Model]] = {
    "host": HostFile,
    "cluster": ClusterFile,
    "recipe": Recipe,
    "group-data": Defaults,
}
_TITLES = {
    "host": "sparkfleet host file: inventories/<fleet>/<host>.yaml",
    "cluster": "sparkfleet cluster file: inventories/<fleet>/clusters/<name>.yaml",
    "recipe": "sparkfleet recipe: inventories/<fleet>/recipes/<name>.yaml",
    "group-data": "sparkfleet = {...} in group_data/<group>.py",
}


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one kind of file."""
    found = KINDS[kind].model_json_schema()
    found["title"] = _TITLES[kind]
    if kind == "host":
        _names_in_lists(found)
    if kind == "recipe":
        # A recipe inherits missing values from the one that it extends.
        required = [name for name in found.pop("required") if name != "recipe"]
        found["required"] = ["recipe"]
        found["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _names_in_lists(found: dict[str, Any]) -> None:
    """Accept recipe names in a list of services."""
    name = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9.-]{0,62}$"}
    for choice in found["properties"]["serve"]["anyOf"]:
        if choice.get("type") == "array":
            choice["items"] = {"anyOf": [name, choice["items"]]}
