"""Requests of the probe with the default runtime."""

from __future__ import annotations

from typing import Any

from sparkfleet import runtimes
from sparkfleet.contract.probe import ProbeRequest


def request_of(**fields: Any) -> ProbeRequest:
    """Return the request of a host whose services have the default runtime."""
    return ProbeRequest((runtimes.DEFAULT,), **fields)
