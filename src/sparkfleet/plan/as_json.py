"""The plan for programs: the same content as the report, as plain data with stable keys."""

from __future__ import annotations

import dataclasses
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan.model import Entry, HostPlan, HostState, Plan


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON-able data."""
    return {
        "schema": 1,
        "summary": {str(state): plan.count(state) for state in HostState},
        "exit_code": plan.exit_code,
        "hosts": [_host(host) for host in plan.hosts],
    }


def _host(host: HostPlan) -> dict[str, Any]:
    return {
        "host": host.host,
        "state": str(host.state),
        "unknown": _diagnostic(host.unknown),
        "going_on": host.going_on,
        "entries": [_entry(entry) for entry in host.entries],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "subject": entry.subject,
        "title": entry.title or entry.subject,
        "verb": str(entry.verb),
        "replaces": list(entry.replaces),
        "downtime_s": entry.downtime_s,
        "blocked": _diagnostic(entry.blocked),
        "cluster": entry.cluster,
        "changes": [{k: str(v) for k, v in dataclasses.asdict(change).items()} for change in entry.changes],
    }


def _diagnostic(diagnostic: Diagnostic | None) -> dict[str, Any] | None:
    return dataclasses.asdict(diagnostic) if diagnostic else None
