"""What is declared of a Spark itself, as the request that its programs carry out."""

from __future__ import annotations

from typing import Any

from sparkfleet.config.items import Item
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote, secrets
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan import compile_caches, resource_changes
from sparkfleet.plan.model import Change, Sign
from sparkfleet.probe.observed import User

TIMEOUT_S = 1500
"""Seconds for all of it: packages come over a slow line."""


def request(declared: tuple[Item, ...], changes: tuple[Change, ...]) -> dict[str, Any]:
    """Return the rows of the shown plan as the Spark's program takes them; {}: none is for it."""
    rows: dict[str, Sign] = {f"{change.field} {change.key}": change.sign for change in changes}
    put = [_asked(item) for item in declared if item.id in rows and rows[item.id] is not Sign.REMOVE]
    ours = {f"{kind} " for kind in resource_changes.KINDS}
    back = [
        name
        for name, sign in rows.items()
        if sign is Sign.REMOVE and any(name.startswith(kind) for kind in ours)
    ]
    caches = [change.key for change in changes if change.field == compile_caches.FIELD]
    asked = {"put": put, "take_back": back, "caches": caches}
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


def carry_out(act: executor.Acting, user: User, changes: tuple[Change, ...]) -> None:
    """Have the Spark do it. Raise FailedError with everything that it refuses."""
    asked = request(resource_changes.items(spark_plan.declared(act.host), user), changes)
    if not asked:
        return
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
