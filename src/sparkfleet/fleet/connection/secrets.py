"""Secrets of the operator's machine: compared with those on a Spark by salted hashes, sent on stdin alone."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sparkfleet.config.items import Item
from sparkfleet.config.resolved import Host
from sparkfleet.fleet.connection import secret_cache
from sparkfleet.onhost.collectors import resources
from sparkfleet.plan import resource_changes
from sparkfleet.probe.observed import Observed


def value(item: Item) -> str:
    """Return what the Spark keeps: of a login, user and password; "" when the source gives nothing.

    Raise SparkfleetError when a file or a command that was declared gives nothing.
    """
    found = secret_cache.read_once(item.source, field="prepare")
    return f"{item.user}:{found}" if found and item.kind == "login" else found


def compared(host: Host, observed: Observed) -> Observed:
    """Return what was observed, with each secret said to be the declared one, or another."""
    live = dict(observed.items.live)
    for item in resource_changes.items(host, observed.user):
        if item.kind in resource_changes.SECRETS and "error" not in live[item.id]:
            live[item.id] = _compared(live[item.id], value(item))
    return replace(observed, items=replace(observed.items, live=live))


def _compared(seen: Mapping[str, Any], declared: str) -> Mapping[str, Any]:
    if not declared:
        return {**seen, "secret": resource_changes.NOT_GIVEN}
    if seen.get("secret") != "there":
        return seen  # there is none, or kept in another place than is declared
    same = hmac.compare_digest(seen["hash"], resources.digest(declared.encode(), bytes.fromhex(seen["salt"])))
    return {**seen, "secret": resource_changes.CURRENT if same else "another"}
