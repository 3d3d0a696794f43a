"""Secrets of the operator's machine: compared with those on a Spark by salted hashes, sent on stdin only."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sparkfleet.desired_state import Host
from sparkfleet.fleet.connection import secret_cache
from sparkfleet.onhost.collectors import resources
from sparkfleet.plan import resource_changes
from sparkfleet.probe.observation import Observed
from sparkfleet.resources import registry
from sparkfleet.resources.base import CURRENT, NO_SOURCE, Resource


def read(resource: Resource) -> str:
    """Return the token or password; "" without a source.

    Raise SparkfleetError when a declared file or command gives no secret.
    """
    return secret_cache.read_once(resource.source, field="prepare")


def _as_stored(resource: Resource) -> str:
    found = read(resource)
    return f"{resource.user}:{found}" if found and resource.user else found


def compare(host: Host, observed: Observed) -> Observed:
    """Return what was observed, with each secret marked as current or another one."""
    live = dict(observed.resources.live)
    for resource in resource_changes.declared(host, observed.user):
        seen = live.get(resource.id, {})
        if registry.kind(resource.kind).credential_field and seen and "error" not in seen:
            live[resource.id] = _compared(seen, _as_stored(resource))
    return replace(observed, resources=replace(observed.resources, live=live))


def _compared(seen: Mapping[str, Any], declared: str) -> Mapping[str, Any]:
    if not declared:
        return {**seen, "secret": NO_SOURCE}
    if seen.get("secret") != "there":
        return seen  # absent, or stored in another place than declared
    try:
        salt, digest = bytes.fromhex(seen["salt"]), str(seen["hash"]).encode()
    except (KeyError, TypeError, ValueError) as error:
        return {"error": f"the hash of its secret has an unexpected format: {error}"}
    same = hmac.compare_digest(digest, resources.digest(declared.encode(), salt).encode())
    return {**seen, "secret": CURRENT if same else "another"}
