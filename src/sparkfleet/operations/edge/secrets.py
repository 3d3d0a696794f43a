"""Secrets of the operator's machine: compared with those on a Spark by salted hashes, sent on stdin alone."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sparkfleet.facts import given
from sparkfleet.plan import preparation
from sparkfleet.probe.looks import prepared
from sparkfleet.probe.observed import Observed
from sparkfleet.spec.items import Item
from sparkfleet.spec.resolved import Host


def value(item: Item) -> str:
    """Return what the Spark keeps: of a login, user and password; "" when the source gives nothing.

    Raise SparkfleetError when a file or a command that was declared gives nothing.
    """
    found = given.read_once(item.source, field="prepare")
    return f"{item.user}:{found}" if found and item.kind == "login" else found


def compared(host: Host, observed: Observed) -> Observed:
    """Return what was observed, with each secret said to be the declared one, or another."""
    live = dict(observed.items.live)
    for item in preparation.items(host, observed.user):
        if item.kind in preparation.SECRETS and "error" not in live[item.id]:
            live[item.id] = _compared(live[item.id], value(item))
    return replace(observed, items=replace(observed.items, live=live))


def _compared(seen: Mapping[str, Any], declared: str) -> Mapping[str, Any]:
    if not declared:
        return {**seen, "secret": preparation.NOT_GIVEN}
    if seen.get("secret") != "there":
        return seen  # there is none, or kept in another place than is declared
    same = hmac.compare_digest(seen["hash"], prepared.digest(declared.encode(), bytes.fromhex(seen["salt"])))
    return {**seen, "secret": preparation.CURRENT if same else "another"}
