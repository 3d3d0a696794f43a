"""The plan for programs: the content of the report and the operations, as plain data with stable keys.

``docs/schema/plan.json`` and ``docs/reference/plan-json.md`` describe it (``plan/json_schema.py``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.model import ChangeSet, FieldChange, HostPlan, HostState, Note, Operation, Plan

SCHEMA = 2
"""Version of the document; a change that breaks readers raises it."""


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON-able data."""
    return {
        "schema": SCHEMA,
        "summary": {str(state): plan.count(state) for state in HostState},
        "exit_code": plan.exit_code,
        "knowledge": plan.knowledge,
        "warnings": [_diagnostic(one) for one in plan.warnings],
        "hosts": [_host(host) for host in plan.hosts],
    }


def _host(host: HostPlan) -> dict[str, Any]:
    return {
        "host": host.host,
        "state": str(host.state),
        "unknown": _diagnostic(host.unknown),
        "rollout_in_progress": host.rollout_in_progress,
        "warnings": [_diagnostic(one) for one in host.warnings],
        "stops": [dataclasses.asdict(one) for one in host.stops],
        "change_sets": [_change_set(one) for one in host.change_sets],
    }


def _change_set(change_set: ChangeSet) -> dict[str, Any]:
    return {
        "subject": change_set.subject,
        "title": change_set.title or change_set.subject,
        "kind": str(change_set.kind),
        "cluster": change_set.cluster,
        "downtime_s": change_set.downtime,
        "bytes": change_set.size,
        "blocked": _diagnostic(change_set.blocked),
        "operations": [_operation(one) for one in change_set.operations],
        "notes": [_note(one) for one in change_set.notes],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "type": operation.type,
        "step": str(operation.step),
        "downtime_s": operation.downtime,
        "bytes": operation.size,
        "parameters": {name: _plain(getattr(operation, name)) for name in operation.parameters()},
        "fields": [_field(one) for one in operation.fields()],
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _field(change: FieldChange) -> dict[str, str]:
    return {name: str(value) for name, value in dataclasses.asdict(change).items()}


def _note(note: Note) -> dict[str, Any]:
    return {
        "step": str(note.step),
        "name": note.name,
        "key": note.key,
        "text": note.text,
        "remark": note.remark,
        "diagnostic": _diagnostic(note.diagnostic),
    }


def _diagnostic(diagnostic: Diagnostic | None) -> dict[str, Any] | None:
    return dataclasses.asdict(diagnostic) if diagnostic else None
