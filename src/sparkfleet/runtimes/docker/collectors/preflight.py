"""Docker for a preflight: storage driver, runtimes, and every container."""

from __future__ import annotations

from sparkfleet.runtimes.docker.collectors.probe import LABEL_SERVICE, get
from sparkfleet.runtimes.docker.onhost.api import data_of

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def collect() -> dict[str, Any]:
    """Return storage driver, root directory, runtimes and all containers."""
    info = get("/info")
    return {
        "state": "ok",
        "version": info.get("ServerVersion", ""),
        "driver": info.get("Driver", ""),
        "root": data_of(info),
        "runtimes": sorted(info.get("Runtimes") or ()),
        "containers": [
            {
                "name": next(iter(row.get("Names") or ("",))).lstrip("/"),
                "image": row.get("Image", ""),
                "command": row.get("Command", "")[:200],
                "state": row.get("State", ""),
                "ours": LABEL_SERVICE in (row.get("Labels") or {}),
            }
            for row in get("/containers/json?all=1") or ()
        ],
    }
