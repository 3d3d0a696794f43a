"""What gives a container the GPU: programs of the NVIDIA container toolkit, and CDI files."""

from __future__ import annotations

import os

from sparkfleet.onhost.collectors import basics

PROGRAMS = ("nvidia-container-runtime-hook", "nvidia-container-runtime", "nvidia-ctk", "nvidia-cdi-hook")
CDI_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")


def collect_toolkit() -> dict[str, list[str]]:
    """Return the programs on PATH, and the CDI files."""
    described = [
        os.path.join(folder, name)
        for folder in CDI_DIRECTORIES
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder))
        if name.endswith((".yaml", ".json"))
    ]
    return {"programs": [name for name in PROGRAMS if basics.which(name)], "cdi": described}
