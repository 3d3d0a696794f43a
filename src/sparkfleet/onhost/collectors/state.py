"""What the Spark keeps: generations that serve, a change that is going on."""

from __future__ import annotations

import json
import os

from sparkfleet.onhost.collectors import basics

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def record_file() -> dict[str, Any]:
    """Return the record of the resources that runs applied, in the version that was written."""
    data: dict[str, Any] = document("prepared.json", 1 << 26)
    valid = isinstance(data, dict) and "error" not in data
    if not valid or not isinstance(data.get("resources", data.get("items", {})), dict):
        raise TypeError("%s/prepared.json is not the record of this host's resources" % basics.STATE_DIR)
    return data


def document(name: str, limit: int = 1 << 20) -> Any:
    """Return the JSON value of a file in the state directory, {} without one; the operator checks it."""
    text = basics.read_text(os.path.join(basics.STATE_DIR, name), limit)
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        return {"error": "unreadable: %s" % error}


def recorded() -> list[str]:
    """Return the ids of the resources that runs applied (version 1 of the record has "items")."""
    data = record_file()
    return sorted(data.get("resources") or data.get("items", ()))


def look_at_state() -> dict[str, Any]:
    """Return the generations that serve, and a rollout in progress."""
    services = os.path.join(basics.STATE_DIR, "services")
    generations = {
        name: document(os.path.join("services", name, "current.json"))
        for name in (sorted(os.listdir(services)) if os.path.isdir(services) else ())
        if basics.read_text(os.path.join(services, name, "current.json"))
    }
    going_on = ""
    for folder in rollouts():
        if os.path.exists(os.path.join(folder, "request.json")) and not os.path.exists(
            os.path.join(folder, "result.json")
        ):
            going_on = os.path.basename(folder)
    return {
        "generations": generations,
        "rollout": going_on,
        "rates": document("rates.json"),
        "recorded": recorded(),
        "staged": staged(),
    }


def rollouts() -> list[str]:
    """Return the directories of rollouts, also those of an earlier version that were not moved yet."""
    return [
        os.path.join(base, name)
        for base in (os.path.join(basics.STATE_DIR, "swaps"), os.path.join(basics.STATE_DIR, "rollouts"))
        if os.path.isdir(base)
        for name in sorted(os.listdir(base))
    ]


def staged() -> Any:
    """Return what sparkfleet itself fetched, without what a plan does not need of it."""
    data = document("staged.json", 1 << 24)
    if not isinstance(data, dict):
        return data
    try:
        kinds = {
            kind: {key: {"bytes": one["bytes"]} for key, one in data[kind].items()}
            for kind in ("images", "revisions")
            if kind in data
        }
        return {**{key: data[key] for key in ("version", "schema", "error") if key in data}, **kinds}
    except (AttributeError, KeyError, TypeError):
        return data
