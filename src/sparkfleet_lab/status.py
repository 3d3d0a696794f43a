"""The parts of a lab and their states, as data."""

from __future__ import annotations

from dataclasses import dataclass

from sparkfleet_lab import faults
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.machines import cable_ends
from sparkfleet_lab.names import LABEL, Lab
from sparkfleet_lab.state import State


@dataclass(frozen=True)
class Row:
    """One machine or service of the lab."""

    name: str
    role: str
    """spark, registry or hub."""
    state: str
    """Docker's state: running, exited, absent ..."""
    address: str
    """How the operator reaches it."""
    lan: str = ""
    fabric: str = ""
    faults: tuple[str, ...] = ()
    """Active faults of ``sparkfleet lab break``."""


def status(docker: Docker, lab: Lab, state: State) -> tuple[Row, ...]:
    """Return every part that the lab should have, with its state."""
    seen = dict(
        line.split("\t", 1)
        for line in docker.lines(
            "ps", "-a", "--filter", f"label={LABEL}={lab.prefix}", "--format", "{{.Names}}\t{{.State}}"
        )
    )

    def row(name: str, role: str, address: str, lan: str, fabric: str = "") -> Row:
        state_now = seen.get(lab.container(name), "absent")
        return Row(name, role, state_now, address, lan, fabric, faults.active(lab, name))

    sparks = [
        row(
            machine.name,
            "spark",
            f"127.0.0.1:{machine.ssh_port}",
            state.lan.address(machine.last),
            cable_ends(state, machine)[0][0].address(machine.last),
        )
        for machine in state.machines
    ]
    return (
        *sparks,
        row("registry", "registry", state.registry_url, state.registry_ip),
        row("hub", "hub", state.hub_url, state.lan.address(3)),
    )
