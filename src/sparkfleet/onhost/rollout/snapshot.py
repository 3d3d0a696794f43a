"""State of the affected services before a rollout, for the restore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.generation import Generation, RolloutRequest
from sparkfleet.contract.rollout import ServiceBefore, StateBefore
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System, runtime_of, systemctl
from sparkfleet.onhost.rollout import checks
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Runtime

STOP_TIMEOUT_S = 60
"""Grace for an engine without a recorded one."""


def take(system: System, request: RolloutRequest) -> StateBefore:
    """Return the state of all services that the rollout affects. Raise ContractError."""
    services = checks.affected_services(request)
    return StateBefore({service: of_service(system, service, request.candidate) for service in services})


def of_service(system: System, service: str, candidate: Generation | None = None) -> ServiceBefore:
    """Return the state of one service. Raise ContractError for a record that cannot be read.

    A service without a record is looked for in the runtime of the candidate.
    """
    path, current = unit_path(system, service), store.current(system.paths.state, service)
    container = runtime_of(system, current, candidate).find(service)
    return ServiceBefore(
        container=container.id if container else "",
        running=bool(container and container.running),
        active=is_active(system, service),
        enabled=systemctl(system, "is-enabled", units.unit_name(service)).out.strip() == "enabled",
        unit=path.read_text(encoding="utf-8") if path.exists() else None,
        drop_ins={str(file): file.read_text(encoding="utf-8") for file in drop_ins(system, service)},
        current=current,
    )


def current_runtime(system: System, service: str) -> Runtime:
    """Return the runtime of a service's record; the default one without a readable one."""
    try:
        return runtime_of(system, store.current(system.paths.state, service))
    except ContractError:
        return runtime_of(system)


def recorded(journal: Journal) -> Mapping[str, ServiceBefore]:
    """Return the recorded state of the affected services; {} before it was recorded."""
    before = journal.before(StateBefore)
    return before.services if before else {}


def is_active(system: System, service: str) -> bool:
    """Return whether systemd keeps this service running, also between two attempts."""
    state = systemctl(system, "is-active", units.unit_name(service)).out.strip()
    return state in {"active", "activating", "reloading"}


def stop_timeout(before: ServiceBefore) -> int:
    """Return the seconds that this service's engine has to end."""
    return before.current.stop_timeout_s if before.current else STOP_TIMEOUT_S


def unit_path(system: System, service: str) -> Path:
    """Return the path of a service's unit."""
    return system.paths.units / units.unit_name(service)


def drop_ins(system: System, service: str) -> tuple[Path, ...]:
    """Return the drop-ins of a unit."""
    return tuple(file for folder in _beside(system, service) for file in sorted(folder.glob("*.conf")))


def write_unit(
    system: System, service: str, text: str | None, beside: Mapping[str, str] | None = None
) -> bool:
    """Write unit and drop-ins (by path; None: no unit). Return whether anything changed."""
    path, beside = unit_path(system, service), beside or {}
    existing = path.read_text(encoding="utf-8") if path.exists() else None
    found_beside = {str(file): file.read_text(encoding="utf-8") for file in drop_ins(system, service)}
    if (existing, found_beside) == (text, beside):
        return False
    if text is None:
        files.remove(path)
    else:
        files.write_atomic(path, text)
    for folder in _beside(system, service):
        files.remove(folder)
    for name, content in beside.items():
        files.write_atomic(Path(name), content)
    systemctl(system, "daemon-reload")
    return True


def _beside(system: System, service: str) -> tuple[Path, ...]:
    name = f"{units.unit_name(service)}.d"
    return tuple(root / name for root in (system.paths.units, *system.paths.units_beside))
