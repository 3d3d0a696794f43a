"""``docker inspect`` of a container as an ``Instance``."""

from __future__ import annotations

from typing import Any

from sparkfleet.contract.generation import LABEL_GENERATION, LABEL_SERVICE
from sparkfleet.runtimes.base import Instance


def parse(data: dict[str, Any]) -> Instance:
    """Return the container of one ``docker inspect`` object."""
    state, config = data.get("State") or {}, data.get("Config") or {}
    published = (data.get("NetworkSettings") or {}).get("Ports") or {}
    bindings = [binding for bound in published.values() for binding in bound or ()]
    labels = dict(config.get("Labels") or {})
    return Instance(
        id=data["Id"],
        name=str(data.get("Name", "")).lstrip("/"),
        running=bool(state.get("Running")),
        pid=int(state.get("Pid") or 0),
        exit_code=int(state.get("ExitCode") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        started_at=str(state.get("StartedAt") or ""),
        labels=labels,
        service=labels.get(LABEL_SERVICE, ""),
        generation=labels.get(LABEL_GENERATION, ""),
        env=tuple(config.get("Env") or ()),
        command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        ports=tuple(sorted({int(binding["HostPort"]) for binding in bindings if binding.get("HostPort")})),
        artifact=str(data.get("Image") or ""),
        details=data,
    )


def is_paused(instance: Instance) -> bool:
    """Return whether its processes are frozen."""
    return bool((instance.details.get("State") or {}).get("Paused"))


def has_tty(instance: Instance) -> bool:
    """Return whether its log is one plain stream instead of frames."""
    return bool((instance.details.get("Config") or {}).get("Tty"))


def restart_policy(instance: Instance) -> str:
    """Return its restart policy; "no" for none."""
    policy = (instance.details.get("HostConfig") or {}).get("RestartPolicy") or {}
    return str(policy.get("Name") or "no")
