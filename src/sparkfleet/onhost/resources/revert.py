"""What of a thing goes back to how it was, once it is no longer declared. Asked by the plan and by the run.

Only what is still as a run put it: what somebody changed since is theirs, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparkfleet.onhost.collectors.resources import MISSING

WHOLE = {
    "file": "sha256",
    "gpu": "is",
    "login": "hash",
    "package": "is",
    "sudoers": "rule",
    "token": "hash",
}
"""Kinds that go back as a whole or not at all -> the field that tells whether it is still ours."""


def fields(entry: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields of a thing on record that go back to what was there before."""
    put, before = entry["put"], entry["before"]
    if live.get("unit") == MISSING:
        return ()  # with its package
    own = WHOLE.get(entry["kind"])
    if own is not None:
        return tuple(put) if live.get(own) == put.get(own) else ()
    if before.get("is") == "absent":
        return tuple(put) if live.get("empty") == "yes" else ()  # a directory that we made
    return tuple(name for name in put if live.get(name) == put[name] != before.get(name))
