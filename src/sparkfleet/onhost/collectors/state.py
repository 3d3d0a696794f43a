"""What the Spark keeps: generations that serve, a change that is going on."""

from __future__ import annotations

import os

from sparkfleet.onhost.collectors import basics, fast_imports

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def record_file() -> dict[str, Any]:
    """Return the record of what runs put on this Spark itself, as ``onhost/prepare`` wrote it down."""
    text = basics.read_text(os.path.join(basics.STATE_DIR, "prepared.json"), 1 << 26)
    data: dict[str, Any] = fast_imports.loads(text) if text else {}
    return data


def record() -> dict[str, Any]:
    """Return the things in the record, by their ids."""
    items: dict[str, Any] = record_file().get("items", {})
    return items


def look_at_state() -> dict[str, Any]:
    """Return the generations that serve, and a swap that is still going on."""
    generations = {}
    services = os.path.join(basics.STATE_DIR, "services")
    for name in sorted(os.listdir(services)) if os.path.isdir(services) else ():
        text = basics.read_text(os.path.join(services, name, "current.json"))
        if text:
            try:
                generations[name] = fast_imports.loads(text)
            except ValueError as error:
                generations[name] = {"error": "unreadable: %s" % error}
    going_on = ""
    swaps = os.path.join(basics.STATE_DIR, "swaps")
    for name in sorted(os.listdir(swaps)) if os.path.isdir(swaps) else ():
        folder = os.path.join(swaps, name)
        if os.path.exists(os.path.join(folder, "request.json")) and not os.path.exists(
            os.path.join(folder, "result.json")
        ):
            going_on = name
    found = {"generations": generations, "swap": going_on, "rates": rates()}
    return {**found, "recorded": sorted(record()), "brought": brought()}


def brought() -> dict[str, dict[str, int]]:
    """Return the bytes of what sparkfleet itself brought: images by reference, revisions by their path."""
    try:
        data = fast_imports.loads(basics.read_text(os.path.join(basics.STATE_DIR, "staged.json")) or "{}")
        kinds = {kind: data.get(kind) or {} for kind in ("images", "revisions")}
        return {kind: {key: had[key].get("bytes", 0) for key in had} for kind, had in kinds.items()}
    except (ValueError, AttributeError):
        return {}


def rates() -> dict[str, Any]:
    """Return how fast the Spark fetched last, in bytes a second: nothing else depends on it."""
    try:
        found = fast_imports.loads(basics.read_text(os.path.join(basics.STATE_DIR, "rates.json")) or "{}")
    except ValueError:
        return {}
    return {kind: rate for kind, rate in found.items() if isinstance(rate, int) and rate > 0}
