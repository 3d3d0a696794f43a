"""State files of sparkfleet. Most travel as text: the operator's side reads and checks each on its own."""

from __future__ import annotations

import json
import os

from sparkfleet.onhost.collectors import basics

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

RUN_DIR = "/run/sparkfleet"
RECORD = "prepared.json"
LONGEST = 1 << 26
"""Bytes of a file that are read, at most."""


def text_of(name: str) -> Any:
    """Return the text of a file in the state directory, None without the file, or ``{"error": ...}``."""
    try:
        return basics.read_text(os.path.join(basics.STATE_DIR, name), LONGEST)
    except OSError as error:
        return {"error": str(error)}


def document(name: str) -> Any:
    """Return the JSON value of a file in the state directory, None without the file, or its error."""
    text = text_of(name)
    if not isinstance(text, str):
        return text
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"error": "is not JSON: %s" % error}
    return {"error": "found null"} if data is None else data


def recorded() -> Any:
    """Return version and ids of the record of resources, None without one; of another shape as it is."""
    data = document(RECORD)
    if not isinstance(data, dict) or "error" in data:
        return data
    ids = data.get("resources", data.get("items"))  # "items" in version 1
    return {"version": data.get("version", 1), "ids": sorted(ids) if isinstance(ids, dict) else ids}


def collect_state() -> dict[str, Any]:
    """Return the state files, and the id of a rollout in progress."""
    services = os.path.join(basics.STATE_DIR, "services")
    names = sorted(os.listdir(services)) if os.path.isdir(services) else []
    records = ["services/%s/%s.json" % (name, file) for name in names for file in ("current", "stop")]
    found = [(name, text_of(name)) for name in ("rates.json", "staged.json", *records)]
    in_progress = ""
    for folder in rollouts():
        name = os.path.basename(folder)
        fallback = os.path.join(
            RUN_DIR, "rollouts", name
        )  # in memory, while its directory could not be written
        ended = any(os.path.exists(place + "/result.json") for place in (folder, fallback))
        if os.path.exists(folder + "/request.json") and not ended:
            in_progress = name
    return {
        "files": {name: text for name, text in found if text is not None},
        "rollout": in_progress,
        "recorded": recorded(),
    }


def rollouts() -> list[str]:
    """Return the directories of rollouts, also those of an older version that were not moved yet."""
    return [
        os.path.join(base, name)
        for base in (os.path.join(basics.STATE_DIR, "swaps"), os.path.join(basics.STATE_DIR, "rollouts"))
        if os.path.isdir(base)
        for name in sorted(os.listdir(base))
    ]
