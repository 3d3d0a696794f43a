"""What is declared of a Spark itself, as the request that its programs carry out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparkfleet.config.items import Item
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote, secrets
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan import resource_changes
from sparkfleet.plan.model import Operation
from sparkfleet.plan.operations import ApplyResource, RemoveCompileCache, RevertResource

TIMEOUT_S = 1500
"""Seconds for all of it: packages come over a slow line."""


def request(declared: tuple[Item, ...], operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the operations on resources as the host's program takes them; {}: there are none."""
    asked = {
        "put": [_asked(one.item) for one in operations if isinstance(one, ApplyResource)],
        "take_back": [f"{one.resource} {one.key}" for one in operations if isinstance(one, RevertResource)],
        "caches": [one.path for one in operations if isinstance(one, RemoveCompileCache)],
    }
    if not any(asked.values()):
        return {}
    return {**asked, "stays": [item.id for item in declared]}


def _asked(item: Item) -> dict[str, Any]:
    secret = secrets.value(item) if item.kind in resource_changes.SECRETS else ""
    return {
        "kind": item.kind,
        "key": item.key,
        "arg": item.arg,
        "want": dict(item.want),
        "content": item.content,
        "user": item.user,
        "secret": secret,
    }


def apply(act: executor.Acting, operations: Sequence[Operation]) -> None:
    """Have the host's program execute the operations on resources. Raise FailedError with what it refuses."""
    if not any(isinstance(one, ApplyResource | RevertResource | RemoveCompileCache) for one in operations):
        return
    user = spark_plan.login_user(act.host)
    asked = request(resource_changes.items(spark_plan.declared(act.host), user), operations)
    answer = remote.program(act.host, "prepare", data=asked, timeout=TIMEOUT_S)
    words = remote.last_document(answer.out)
    if answer.ok and words:
        if any(name.startswith("group ") for name in words["done"]):
            remote.reconnect(act.host)  # whoever logs in from now on is in the group
        return
    said = (answer.err.strip().splitlines() or ["no answer"])[-1]
    diagnostics = [
        Diagnostic(
            f"{act.host.name}: {one['id']}", one["found"], one["expected"], one["remedy"] or "then run again"
        )
        for one in words.get("refused", ())
    ]
    if not diagnostics:
        diagnostics = [Diagnostic(act.host.name, f"preparing the host failed: {said}", hint="run again")]
    elif not words.get("done"):
        diagnostics[0] = Diagnostic(
            diagnostics[0].location,
            f"{diagnostics[0].message}; nothing was changed",
            diagnostics[0].expected,
            diagnostics[0].hint,
        )
    raise executor.FailedError(*diagnostics)
