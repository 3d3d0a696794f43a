"""A runtime that is made up here, without containers and in one folder.

A service is a process of its own systemd unit; its definition is the text of that unit.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import runtimes
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation
from sparkfleet.runtimes.base import Role
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance
from sparkfleet.runtimes.operator import (
    Collectors,
    DeclaredWorkload,
    ObservedRuntime,
    OperatorRuntime,
    SettingChange,
)

NAME = "process"
LIMIT, BIND = "MemoryMax", "BindPaths"
OPERATOR = f"from {__name__} import RUNTIME\n"
COLLECTOR = """
DATA = "/var/cache/process"


def collect(request):
    return {"state": "ok", "units": [], "pids": []}
"""


class Process:
    """What the operator's side needs of it."""

    name = NAME
    noun = "process"
    daemon_units: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("unit",)
    collectors = Collectors((f"sparkfleet.runtimes.{NAME}.collectors.probe",))
    prune_command = "rm -r /var/cache/process"

    def definition(self, workload: DeclaredWorkload, argv: tuple[str, ...]) -> tuple[str, ...]:
        environment = (f"Environment={name}={value}" for name, value in workload.environment.items())
        settings = (f"{name}={value}" for name, value in declared(workload))
        return (*settings, *environment, f"ExecStart={shlex.join(argv)}")

    def program_artifact(self, generation: Generation) -> str:
        return "/opt/process"

    def role(self, instance: ObservedInstance) -> Role | None:
        return next((one for one in Role if instance.name == unit_name(instance.service, one)), None)

    def instance_names(self, service: str) -> tuple[str, ...]:
        return tuple(unit_name(service, role) for role in Role)

    def setting_changes(
        self,
        workload: DeclaredWorkload,
        image: ObservedImage | None,
        seen: ObservedInstance | None,
        seen_image: ObservedImage | None,
    ) -> Sequence[SettingChange]:
        expected = dict(declared(workload))
        lines = (line.partition("=") for line in (seen.details["lines"] if seen else ()))
        have = {name: value for name, _, value in lines if name in {LIMIT, BIND}}
        return [
            SettingChange("unit", name, have.get(name), expected.get(name))
            for name in sorted(have.keys() | expected.keys())
            if have.get(name) != expected.get(name)
        ]

    def read_response(self, part: Any) -> ObservedRuntime:
        return ObservedRuntime(tuple(unit_seen(*one) for one in part["units"]))

    def unavailable(self, host: str, state: str, error: str) -> Diagnostic:
        return Diagnostic(host, f"systemd-run {state}: {error}", code="test")

    def gpu_command(self, image: str) -> tuple[str, ...]:
        return ("nvidia-smi", "-L")

    def remove_image_command(self, image: str) -> str:
        return ""

    def stop_command(self, instance: str) -> str:
        return f"systemctl stop {instance}"

    def disable_command(self, instance: str) -> str:
        return f"systemctl disable --now {instance}"

    def rename_command(self, instance: str, name: str) -> str:
        return f"mv {instance} {name}"

    def render(self, form: str, services: Sequence[tuple[DeclaredWorkload, Generation]]) -> str:
        return "\n".join("\n".join(made.definition) + "\n" for _, made in services)


RUNTIME: OperatorRuntime = Process()


def declared(workload: DeclaredWorkload) -> list[tuple[str, str]]:
    memory = [(LIMIT, workload.container.memory)] if workload.container.memory else []
    return [*memory, (BIND, " ".join(f"{one.source}:{one.target}" for one in workload.mounts))]


def unit_name(service: str, role: Role) -> str:
    return f"engine-{service}-{role.value}"


def unit_seen(service: str, generation: str, artifact: str, lines: Sequence[str]) -> ObservedInstance:
    values = [line.partition("=")[::2] for line in lines]
    return ObservedInstance(
        id=f"unit of {service}", name=unit_name(service, Role.CURRENT), artifact=artifact, state="running",
        started_at="now", service=service, generation=generation,
        command=tuple(shlex.split(dict(values)["ExecStart"])),
        env=tuple(value for name, value in values if name == "Environment"), runtime=NAME,
        details={"lines": tuple(lines)},
    )  # fmt: skip


def running(generation: Generation, image: ObservedImage) -> ObservedInstance:
    return unit_seen(generation.service, generation.id, image.id, generation.definition)


def forget() -> None:
    for cached in (runtimes.names, runtimes.of_containers, runtimes.get):
        cached.cache_clear()
    for module in [name for name in sys.modules if name.startswith(f"{runtimes.__name__}.{NAME}")]:
        del sys.modules[module]
    vars(runtimes).pop(NAME, None)


@pytest.fixture
def process_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the runtime's folder where runtimes are searched."""
    folder = tmp_path / "runtimes" / NAME
    (folder / "collectors").mkdir(parents=True)
    (folder / "operator.py").write_text(OPERATOR)
    (folder / "collectors" / "probe.py").write_text(COLLECTOR)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(runtimes, "__path__", [*runtimes.__path__, str(folder.parent)])
    monkeypatch.delitem(sys.modules, "sparkfleet.cli.render", raising=False)
    forget()
    yield
    forget()
