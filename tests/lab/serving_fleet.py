"""A converged fleet: shared by tests that start from one and leave one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet_lab import faults
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine

RECIPE = "nemotron-3-nano-30b-a3b-nvfp4"


@dataclass(frozen=True)
class ServingFleet:
    """A fleet and its machines."""

    fleet: FleetDirectory
    machines: tuple[Machine, ...]

    def set(self, host: str, *, env: Mapping[str, Any] | None = None, **flags: Any) -> None:
        """Declare the service ``nano`` of a host with these flags (``_`` for ``-``) and variables."""
        self.fleet.host(host, nano(env=env, **flags))


def nano(*, env: Mapping[str, Any] | None = None, **flags: Any) -> dict[str, Any]:
    """Return a host file with one service, ``nano`` on port 8000."""
    service: dict[str, Any] = {"recipe": RECIPE, "name": "nano"}
    if flags:
        service["flags"] = {name.replace("_", "-"): value for name, value in flags.items()}
    if env:
        service["env"] = dict(env)
    return {"serve": [service]}


def reset_machines(lab: Lab, state: State, *names: str, cold: bool = False) -> tuple[Machine, ...]:
    """Return fresh machines with the engine images (``cold``: without); registry and hub have no fault."""
    faults.repair_services(Docker(), lab, state)
    machines = tuple(Machine(name, lab, state) for name in names)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda machine: machine.reset(cold=cold), machines))
    return machines


def converge_fleet(lab: Lab, state: State, root: Path, *names: str) -> ServingFleet:
    """Return fresh machines that one run has converged to serve ``nano`` by the recipe."""
    serving = ServingFleet(FleetDirectory(root / "checkout", lab), reset_machines(lab, state, *names))
    for name in names:
        serving.set(name)
    serving.fleet.lock()
    serving.fleet.run().expect(0)
    return serving
