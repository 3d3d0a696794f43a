"""Persistence, power limit and clocks of the GPU: told now, and at every boot by a unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.resources import validators
from sparkfleet.onhost.resources.base import RefusedError, Thing, must
from sparkfleet.onhost.state.units import MARK

SMI = ("/usr/bin/env", "nvidia-smi")
FIELDS = tuple(resources.GPU_WORDS)


def unit_text(want: Mapping[str, str]) -> str:
    """Return the unit that tells the GPU its settings at boot."""
    lines = [
        f"ExecStart={' '.join(SMI)} {resources.GPU_WORDS[name]} {want[name]}" for name in FIELDS if want[name]
    ]
    return "\n".join(
        (
            MARK,
            "[Unit]",
            "Description=settings of the GPU",
            "After=nvidia-persistenced.service",
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            *lines,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        )
    )


def now(system: System, _: Thing) -> dict[str, Any]:
    """Return persistence and power limit of this moment, as far as the GPU tells them."""
    asked = "--query-gpu=persistence_mode,power.limit"
    said = system.run((*SMI, asked, "--format=csv,noheader,nounits")).out.split(",")
    mode, limit = (part.strip() for part in (*said, "", "")[:2])
    return {
        "persistence now": {"Enabled": "1", "Disabled": "0"}.get(mode, ""),
        "power limit now": f"{float(limit):g}" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", limit) else "",
    }


def check(system: System, thing: Thing) -> None:
    """Refuse a unit that systemd does not take, and a Spark without nvidia-smi."""
    must(system, (*SMI, "-L"))
    validators.check_unit(system, _path(system), unit_text(thing.want).encode())


def _path(system: System) -> Path:
    return system.paths.units / resources.GPU_UNIT


def put(system: System, thing: Thing) -> None:
    """Tell the GPU; only what it takes becomes the unit's. What is not said any more goes back."""
    no_more = [name for name in FIELDS if thing.live.get(name) and not thing.want[name]]
    _forget(system, no_more, thing.before)
    told: list[str] = []
    for name in FIELDS:
        if thing.want[name]:
            done = system.run((*SMI, resources.GPU_WORDS[name], thing.want[name]))
            if done.code:
                _forget(system, told, thing.before)
                last = (done.text.splitlines() or ["no reason given"])[-1]
                raise RefusedError(f"the GPU refuses {name} {thing.want[name]}: {last}", "", "mend the value")
            told.append(name)
    files.write_atomic(_path(system), unit_text(thing.want))
    systemctl(system, "daemon-reload")
    must(system, ("systemctl", "enable", "--quiet", resources.GPU_UNIT))
    must(system, ("systemctl", "restart", resources.GPU_UNIT))


def _forget(system: System, names: list[str], before: Mapping[str, Any]) -> None:
    """Put settings back, as far as it is known how they were."""
    for name in names:
        if name == "clocks":
            system.run((*SMI, "-rgc"))
        elif before.get(f"{name} now"):
            system.run((*SMI, resources.GPU_WORDS[name], before[f"{name} now"]))


def back(system: System, entry: Mapping[str, Any], _: tuple[str, ...]) -> None:
    """Remove the unit, and put the settings back."""
    systemctl(system, "disable", "--quiet", "--now", resources.GPU_UNIT)
    _path(system).unlink(missing_ok=True)
    systemctl(system, "daemon-reload")
    _forget(system, [name for name in FIELDS if entry["put"].get(name)], entry["before"])
