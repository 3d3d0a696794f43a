"""Docker for a preflight: storage driver, runtimes, and every container."""

from __future__ import annotations

from sparkfleet.onhost.collectors import docker

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def collect_engine() -> dict[str, Any]:
    """Return storage driver, root directory, runtimes and all containers."""
    info = docker.docker_get("/info")
    return {
        "state": "ok",
        "version": info.get("ServerVersion", ""),
        "driver": info.get("Driver", ""),
        "root": info.get("DockerRootDir", ""),
        "runtimes": sorted(info.get("Runtimes") or ()),
        "containers": [
            {
                "name": next(iter(row.get("Names") or ("",))).lstrip("/"),
                "image": row.get("Image", ""),
                "command": row.get("Command", "")[:200],
                "state": row.get("State", ""),
                "ours": docker.LABEL_SERVICE in (row.get("Labels") or {}),
            }
            for row in docker.docker_get("/containers/json?all=1") or ()
        ],
    }
