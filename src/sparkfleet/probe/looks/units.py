"""Units of ours: their text, their drop-ins, and what systemd says of them."""

from __future__ import annotations

import os
import re
import subprocess

from sparkfleet.probe.looks import basics

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

UNITS_BESIDE = ("/run/systemd/system", "/etc/systemd/system.control", "/run/systemd/system.control")
"""Where ``systemctl edit --runtime`` and ``systemctl set-property`` put what changes a unit."""


def look_at_units() -> dict[str, Any]:
    """Return each unit of ours: its text, drop-ins, and what systemd says of it."""
    if not os.path.isdir("/run/systemd/system"):
        return {"state": "missing"}
    units: dict[str, dict[str, Any]] = {}
    names = sorted(
        {
            name
            for name in os.listdir(basics.UNIT_DIR)
            if re.fullmatch(r"sparkfleet-[a-z0-9.-]+\.service", name)
        }
        | {
            name[:-2]
            for name in os.listdir(basics.UNIT_DIR)
            if re.fullmatch(r"sparkfleet-[a-z0-9.-]+\.service\.d", name)
        }
    )
    for name in names:
        drop_ins = {}
        for directory in ("%s/%s.d" % (root, name) for root in (basics.UNIT_DIR, *UNITS_BESIDE)):
            if os.path.isdir(directory):
                for entry in sorted(file for file in os.listdir(directory) if file.endswith(".conf")):
                    drop_ins[os.path.join(directory, entry)] = (
                        basics.read_text(os.path.join(directory, entry)) or ""
                    )
        units[name] = {"text": basics.read_text(os.path.join(basics.UNIT_DIR, name)), "drop_ins": drop_ins}
    if names:
        answer = subprocess.run(
            [
                "systemctl",
                "show",
                "--property=Id,ActiveState,SubState,UnitFileState,NeedDaemonReload,Result,StatusText",
                *names,
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        for block in answer.stdout.strip().split("\n\n"):
            facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if facts.get("Id") in units:
                units[facts["Id"]].update(
                    active=facts.get("ActiveState", ""),
                    sub=facts.get("SubState", ""),
                    enabled=facts.get("UnitFileState", ""),
                    reload=facts.get("NeedDaemonReload", "") == "yes",
                    result=facts.get("Result", ""),
                    status=facts.get("StatusText", ""),
                )
    return {"state": "ok", "units": units}
