"""What the kinds that keep a secret on the Spark have in common."""

from __future__ import annotations

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.resources.base import CURRENT, NO_SOURCE, Fields, Resource, conflict


def blocker(resource: Resource, live: Fields, removal: str, *, recorded: bool) -> Diagnostic | None:
    """Return why a secret cannot be stored: no source, or another one that is not ours."""
    if live.get("is") == "absent":
        if live.get("secret") != NO_SOURCE:
            return None
        message = f"the secret for {resource.key} is missing: {resource.source} gives nothing"
        return conflict(resource, message, "a secret", f"set it, then run again: {resource.source}")
    if recorded or live.get("secret") in {CURRENT, NO_SOURCE}:
        return None
    return conflict(
        resource,
        f"{resource.key} has another secret, not stored by sparkfleet",
        "none, or the declared one",
        f"on the Spark: {removal}; or remove it from the declaration",
    )
