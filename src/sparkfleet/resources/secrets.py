"""What the kinds that keep a secret on the Spark have in common."""

from __future__ import annotations

from sparkfleet.resources.base import CURRENT, NO_SOURCE, Blocker, Fields, Resource


def blocker(resource: Resource, live: Fields, removal: str, *, recorded: bool) -> Blocker | None:
    """Return why a secret cannot be stored: no source, or another one that is not ours."""
    if live.get("is") == "absent":
        if live.get("secret") != NO_SOURCE:
            return None
        found = f"the secret for {resource.key} is missing: {resource.source} gives nothing"
        return found, "a secret", f"set it, then run again: {resource.source}"
    if recorded or live.get("secret") in {CURRENT, NO_SOURCE}:
        return None
    return (
        f"{resource.key} has another secret, not stored by sparkfleet",
        "none, or the declared one",
        f"on the Spark: {removal}; or remove it from the declaration",
    )
