"""Containers and images, as the Docker Engine reports them."""

from __future__ import annotations

from sparkfleet.onhost.collectors import basics
from sparkfleet.runtimes.docker.onhost.api import EngineApi, data_of
from sparkfleet.runtimes.errors import DOWN, MISSING, RuntimeUnavailableError

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SOCKET = "/var/run/docker.sock"
DATA = "/var/lib/docker"
"""Where images are stored, as a rule; ``data`` of the answer overrides it."""
TIMEOUT_S = 20
LABEL_SERVICE = "io.sparkfleet.service"


def get(path: str) -> Any:
    """Return the decoded response of the Engine API, or None for 404."""
    try:
        return EngineApi(SOCKET, quick_s=TIMEOUT_S, versioned=False).get(path)
    except RuntimeUnavailableError as error:
        if error.state != MISSING:
            raise
        if basics.which("docker") or basics.which("dockerd"):
            detail = "no socket at %s: the daemon is not running" % SOCKET
            raise RuntimeUnavailableError(detail, DOWN) from None
        raise RuntimeUnavailableError("Docker is not installed", MISSING) from None


def container_facts(data: dict[str, Any], *, compared: bool) -> dict[str, Any]:
    """Return the part of ``docker inspect`` that a plan compares; of unmanaged containers only name, image,
    state, labels and ports (no environment).
    """
    config, host = data["Config"], data["HostConfig"]
    keys = ("Image", "Cmd", "Entrypoint", "Env", "User", "WorkingDir", "Labels", "StopTimeout", "StopSignal")
    return {
        "id": data["Id"],
        "name": data["Name"].lstrip("/"),
        "image_id": data["Image"],
        "state": data["State"]["Status"],
        "started_at": data["State"].get("StartedAt", ""),
        "config": {key: config.get(key) for key in (keys if compared else ("Image", "Labels"))},
        "host": host if compared else {key: host.get(key) for key in ("NetworkMode", "PortBindings")},
    }


def image(reference: str) -> dict[str, Any] | None:
    """Return ``docker inspect`` of an image by its name, or by its digest under any name."""
    found: dict[str, Any] | None = get("/images/%s/json" % reference)
    _, at, digest = reference.partition("@")
    if found is None and at:
        for row in get("/images/json") or ():
            if any(name.endswith("@" + digest) for name in row.get("RepoDigests") or ()):
                found = get("/images/%s/json" % row["Id"])
    return found


def in_the_way(name: str, services: Iterable[str]) -> bool:
    """Return whether a container has the name of a service, or one that a rollout needs."""
    return name in services or name.endswith((".next", ".old"))


def collect(request: dict[str, Any]) -> dict[str, Any]:
    """Return our containers, every one that could conflict, the pids of both, and the requested images."""
    containers, pids = [], []
    services = request.get("services", ())
    for row in get("/containers/json?all=1"):
        names = [name.lstrip("/") for name in row.get("Names", ())]
        labels = row.get("Labels") or {}
        ours = LABEL_SERVICE in labels
        if ours or row.get("State") == "running" or any(in_the_way(name, services) for name in names):
            data = get("/containers/%s/json" % row["Id"])
            if data is not None:
                containers.append(container_facts(data, compared=ours))
                pids.append(data["State"].get("Pid", 0))
    images: dict[str, Any] = {}
    ids = {container["image_id"] for container in containers if "Cmd" in container["config"]}
    for reference in dict.fromkeys((*request.get("images", ()), *sorted(ids))):
        known = [one for one in images.values() if one and one["id"] == reference]
        data = None if known else image(reference)
        images[reference] = known[0] if known else data and image_facts(data)
    found = {"state": "ok", "containers": containers, "images": images, "pids": pids}
    if None in images.values():  # space is needed; where it is costs a request
        found["data"] = data_of(get("/info"))
    return found


def image_facts(data: dict[str, Any]) -> dict[str, Any]:
    """Return the part of ``docker image inspect`` that a plan compares. Docker 29 omits empty settings."""
    config = data.get("Config") or {}
    return {
        "id": data["Id"],
        "digests": data.get("RepoDigests") or [],
        "entrypoint": config.get("Entrypoint") or [],
        "cmd": config.get("Cmd") or [],
        "env": config.get("Env") or [],
        "labels": config.get("Labels") or {},
        "user": config.get("User") or "",
        "working_dir": config.get("WorkingDir") or "",
        "arch": data.get("Architecture", ""),
        "size": data.get("Size", 0),
        "top_layer": ((data.get("RootFS") or {}).get("Layers") or [""])[-1],
    }
