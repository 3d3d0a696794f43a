"""A container as ``docker inspect`` shows it, reduced to what we decide by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sparkfleet.contract.generation import LABEL_GENERATION, LABEL_SERVICE


@dataclass(frozen=True)
class Container:
    """One container at one moment."""

    id: str
    name: str
    running: bool
    pid: int = 0
    """Pid of its first process on the Spark, 0 when it does not run."""
    exit_code: int = 0
    out_of_memory: bool = False
    """The kernel's OOM killer ended it."""
    error: str = ""
    """Why dockerd could not start it."""
    started_at: str = ""
    """As dockerd writes it; changes with every start."""
    labels: dict[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    tty: bool = False
    restart_policy: str = "no"
    ports: tuple[int, ...] = ()
    """Host ports that dockerd publishes for it."""
    raw: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def service(self) -> str:
        """Return the service it belongs to; "" = it is not ours and never touched."""
        return self.labels.get(LABEL_SERVICE, "")

    @property
    def generation(self) -> str:
        """Return the id of the generation it was created for."""
        return self.labels.get(LABEL_GENERATION, "")

    @property
    def api_key(self) -> str:
        """Return the key that the engine asks its clients for, "" for none. Never stored anywhere."""
        for entry in self.env:
            if entry.startswith("VLLM_API_KEY="):
                return entry.partition("=")[2]
        for index, word in enumerate(self.command):
            if word == "--api-key" and index + 1 < len(self.command):
                return self.command[index + 1]
            if word.startswith("--api-key="):
                return word.partition("=")[2]
        return ""

    @staticmethod
    def parse(data: dict[str, Any]) -> Container:
        """Return the container of one ``docker inspect`` object."""
        state, config, host = data.get("State") or {}, data.get("Config") or {}, data.get("HostConfig") or {}
        published = (data.get("NetworkSettings") or {}).get("Ports") or {}
        bindings = [binding for bound in published.values() for binding in bound or ()]
        return Container(
            id=data["Id"],
            name=str(data.get("Name", "")).lstrip("/"),
            running=bool(state.get("Running")),
            pid=int(state.get("Pid") or 0),
            exit_code=int(state.get("ExitCode") or 0),
            out_of_memory=bool(state.get("OOMKilled")),
            error=str(state.get("Error") or ""),
            started_at=str(state.get("StartedAt") or ""),
            labels=dict(config.get("Labels") or {}),
            env=tuple(config.get("Env") or ()),
            command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
            tty=bool(config.get("Tty")),
            restart_policy=str((host.get("RestartPolicy") or {}).get("Name") or "no"),
            ports=tuple(
                sorted({int(binding["HostPort"]) for binding in bindings if binding.get("HostPort")})
            ),
            raw=data,
        )
