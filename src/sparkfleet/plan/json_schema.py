"""The JSON Schema of ``plan --json``, made from the types of operations."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.as_json import SCHEMA
from sparkfleet.plan.model import Action, ChangeKind, HostState, Operation, Step
from sparkfleet.plan.operations import OPERATIONS

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
SECONDS = {"type": ["integer", "null"], "description": "seconds without service; null: none, or unknown"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a plan."""
    diagnostic = TypeAdapter(Diagnostic).json_schema(ref_template="#/$defs/{model}")
    definitions = diagnostic.pop("$defs", {})
    diagnostic = definitions.pop("Diagnostic", diagnostic)
    operations = {operation.type: _operation(operation, definitions) for operation in OPERATIONS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sparkfleet plan --json",
        **_object(
            {
                "schema": {"const": SCHEMA},
                "summary": _object({str(state): COUNT for state in HostState}),
                "exit_code": {"enum": [0, 1, 2]},
                "knowledge": {
                    **TEXT,
                    "description": "version of an updated knowledge; empty: the bundled one",
                },
                "warnings": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/Diagnostic"},
                    "description": "what members of a cluster should have in common and have not, and "
                    "identities that several hosts share",
                },
                "hosts": {"type": "array", "items": {"$ref": "#/$defs/host"}},
            }
        ),
        "$defs": {
            **definitions,
            "Diagnostic": diagnostic,
            "host": _object(
                {
                    "host": TEXT,
                    "state": {"enum": [str(state) for state in HostState]},
                    "unknown": _or_null("Diagnostic"),
                    "rollout_in_progress": {**TEXT, "description": "id of the rollout, or empty"},
                    "warnings": {
                        "type": "array",
                        "items": {"$ref": "#/$defs/Diagnostic"},
                        "description": "what is unknown about the host and blocks nothing",
                    },
                    "stops": {
                        "type": "array",
                        "items": {"$ref": "#/$defs/stop"},
                        "description": "services that were stopped on purpose: they are not changed",
                    },
                    "change_sets": {"type": "array", "items": {"$ref": "#/$defs/change_set"}},
                }
            ),
            "stop": _object(
                {
                    "service": TEXT,
                    "operator": {**TEXT, "description": "who stopped it: user@machine"},
                    "at": {"type": "number", "description": "Unix time"},
                    "reason": TEXT,
                    "cluster": {**TEXT, "description": "cluster that serves it, or empty"},
                    "differs": {
                        "type": "array",
                        "items": TEXT,
                        "description": "fields that the first run after its start changes",
                    },
                }
            ),
            "change_set": _object(
                {
                    "subject": {**TEXT, "description": "host, docker, fabric, or the name of a service"},
                    "title": TEXT,
                    "kind": {"enum": [str(kind) for kind in ChangeKind]},
                    "cluster": {**TEXT, "description": "cluster whose members change together, or empty"},
                    "downtime_s": SECONDS,
                    "bytes": {**COUNT, "description": "bytes that are transferred"},
                    "blocked": _or_null("Diagnostic"),
                    "operations": {
                        "type": "array",
                        "items": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in operations]},
                    },
                    "notes": {"type": "array", "items": {"$ref": "#/$defs/note"}},
                }
            ),
            "field": _object(
                {
                    "action": {"enum": [str(action) for action in Action]},
                    "name": {**TEXT, "description": "what differs: image, flag, env, mount, directory, ..."},
                    "key": {**TEXT, "description": "which one of several: a flag, a variable, a path"},
                    "old": TEXT,
                    "new": TEXT,
                    "note": TEXT,
                }
            ),
            "note": _object(
                {
                    "step": {"enum": [str(step) for step in Step]},
                    "name": TEXT,
                    "key": TEXT,
                    "text": TEXT,
                    "remark": TEXT,
                    "diagnostic": _or_null("Diagnostic"),
                }
            ),
            **operations,
        },
    }


def _operation(operation: type[Operation], definitions: dict[str, Any]) -> dict[str, Any]:
    parameters = {}
    for name, (hint, description) in operation.parameters().items():
        field_schema = TypeAdapter(hint).json_schema(ref_template="#/$defs/{model}", mode="serialization")
        definitions.update(field_schema.pop("$defs", {}))
        parameters[name] = {**field_schema, "description": description}
    return {
        "description": (operation.__doc__ or "").strip(),
        **_object(
            {
                "type": {"const": operation.type},
                "step": {"const": str(operation.step)},
                "downtime_s": SECONDS,
                "bytes": COUNT,
                "parameters": _object(parameters),
                "fields": {"type": "array", "items": {"$ref": "#/$defs/field"}},
            }
        ),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _or_null(name: str) -> dict[str, Any]:
    return {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]}
