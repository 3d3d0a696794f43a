"""What a fault of the lab is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong on a machine (``spark``), at the registry or at the hub."""

    name: str
    text: str
    script: str = ""
    """Shell, as root on the machine."""
    repair: str = ""
    """Shell that undoes it. Without this and ``mend_lab`` it is over by itself."""
    lab: str = ""
    """What the lab does: ``power off|on|cycle``, ``cable down|up|mtu N``, ``hub {a fault of hub.py}``."""
    repair_lab: str = ""
    role: str = "spark"
