"""Applies the plan's resource operations with the program on the Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import ResourceRequest, ResourceResult, ResourceToApply
from sparkfleet.desired_state import Host
from sparkfleet.fleet.connection import remote, secrets
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan import resource_changes
from sparkfleet.plan.model import Operation
from sparkfleet.plan.operations import ApplyResource, RevertResource
from sparkfleet.probe.observation import User
from sparkfleet.resources import registry
from sparkfleet.resources.base import Resource

TIMEOUT_S = 1500
"""Seconds for all resources, packages over a slow line included."""


def request(host: Host, user: User, operations: Sequence[Operation]) -> ResourceRequest | None:
    """Return the request to the Spark's program for the plan's resource operations; None without any."""
    applied = tuple(_to_apply(one.declared) for one in operations if isinstance(one, ApplyResource))
    reverted = tuple(one.id for one in operations if isinstance(one, RevertResource))
    if not applied and not reverted:
        return None
    return ResourceRequest(
        applied,
        reverted,
        tuple(one.id for one in resource_changes.declared(host, user)),
    )


def _to_apply(resource: Resource) -> ResourceToApply:
    kept_in = registry.kind(resource.kind).credential_field
    secret = {kept_in: secrets.read(resource)} if kept_in else {}
    return ResourceToApply(
        resource.kind,
        resource.key,
        dict(resource.fields),
        resource.arg,
        resource.content,
        secret.get("hub_token", ""),
        secret.get("registry_password", ""),
        resource.user,
    )


def apply(act: executor.RunContext, operations: Sequence[Operation]) -> None:
    """Apply and revert resources on the Spark. Raise FailedError with everything that it refuses."""
    kinds = {one.resource for one in operations if isinstance(one, ApplyResource | RevertResource)}
    if not kinds:
        return
    requested = request(spark_plan.declared(act.host), spark_plan.login_user(act.host), operations)
    if requested is None:
        return
    output = remote.program(act.host, "prepare", data=requested, timeout=TIMEOUT_S)
    result = remote.document(ResourceResult, act.host, output.out) if output.out else None
    if output.ok and result:
        if any(registry.kind(kind).needs_new_login for kind in kinds):
            remote.reconnect(act.host)
        return
    raise executor.FailedError(*_diagnostics(act.host.name, result, output.err))


def _diagnostics(host: str, result: ResourceResult | None, errors: str) -> list[Diagnostic]:
    if result is None or not result.refused:
        last = (errors.strip().splitlines() or ["no response"])[-1]
        return [
            Diagnostic(
                host, f"applying resources failed: {last}", hint="run again", code="host-change-failed"
            )
        ]
    note = "" if result.done else "; nothing was changed"
    return [
        replace(
            one,
            location=f"{host}: {one.location}",
            message=one.message + (note if number == 0 else ""),
            hint=one.hint or "then run again",
        )
        for number, one in enumerate(result.refused)
    ]
