"""Settings of a fleet of lab machines, for ``group_data/lab.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sparkfleet_lab.names import Lab, find_lab
from sparkfleet_lab.state import read_state


@dataclass(frozen=True)
class Settings:
    """Group data of the lab's fleet. Without a lab all of it is empty."""

    connection: dict[str, str] = field(default_factory=dict)
    """pyinfra's own host data: settings of its SSH connector."""
    sparkfleet: dict[str, Any] = field(default_factory=dict)
    """Fields of ``sparkfleet.config.models.Defaults``."""


def settings(lab: Lab | None = None) -> Settings:
    """Return the settings of this lab (default: the one of the working directory and ``SPARKFLEET_LAB``)."""
    lab_in_use = lab or find_lab()
    state = read_state(lab_in_use)
    if state is None:
        return Settings()
    mirror = {"url": state.registry_url, "ca_file": str(lab_in_use.directory / "ca.pem")}
    return Settings(
        connection={
            "ssh_config_file": str(lab_in_use.ssh_config),
            "ssh_known_hosts_file": str(lab_in_use.directory / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
        },
        sparkfleet={
            "hf_endpoint": state.hub_url,
            "registries": {"nvcr.io": mirror, "ghcr.io": mirror, "docker.io": mirror},
            # Machines share this computer's memory, and a stand-in needs little.
            "reserve_gib": 1,
            "min_available_gib": 0.3,
            "gate": {"timeout": "2m"},
        },
    )
