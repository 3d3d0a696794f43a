"""What runs of a lab, as data."""

from __future__ import annotations

from dataclasses import dataclass

from sparkfleet.lab.docker import Docker
from sparkfleet.lab.names import LABEL, Lab
from sparkfleet.lab.state import State


@dataclass(frozen=True)
class Row:
    """One machine or service of the lab."""

    name: str
    role: str
    """spark, registry or hub."""
    state: str
    """Docker's word: running, exited, absent ..."""
    address: str
    """How the operator reaches it."""
    lan: str = ""
    fabric: str = ""


def status(docker: Docker, lab: Lab, state: State) -> tuple[Row, ...]:
    """Return every part of the lab that should be there, with how it is."""
    seen = dict(
        line.split("\t", 1)
        for line in docker.lines(
            "ps", "-a", "--filter", f"label={LABEL}={lab.prefix}", "--format", "{{.Names}}\t{{.State}}"
        )
    )

    def now(name: str) -> str:
        return seen.get(lab.container(name), "absent")

    sparks = [
        Row(
            machine.name, "spark", now(machine.name), f"ssh -F {lab.ssh_config} {machine.name}",
            state.lan.address(machine.last), state.fabric.address(machine.last),
        )
        for machine in state.machines
    ]  # fmt: skip
    return (
        *sparks,
        Row("registry", "registry", now("registry"), state.registry_url, state.registry_ip),
        Row("hub", "hub", now("hub"), state.hub_url, state.lan.address(3)),
    )
