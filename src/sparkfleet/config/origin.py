"""Places of values: the user's file that chose a shipped recipe comes before the recipe's own line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic

SHIPPED = "catalog/"
"""Prefix of places in shipped recipes."""
SERVICE = "service"
"""Key of an origin: the place of the service itself."""


def user_place(origin: Mapping[str, str], name: str, otherwise: str = "") -> str:
    """Return the place of a field; the service's own if a shipped recipe sets the field."""
    place = origin.get(name, otherwise)
    return origin.get(SERVICE, otherwise) if place.startswith(SHIPPED) else place


def relocate_to_user(diagnostic: Diagnostic, service: str) -> Diagnostic:
    """Return a diagnostic about a shipped recipe at the place of the service, with the recipe's line."""
    place = diagnostic.location
    if not place.startswith(SHIPPED):
        return diagnostic
    return replace(diagnostic, location=service, message=f"{diagnostic.message} (set in {place})")
