"""Units of sparkfleet: their text, their drop-ins, and their state."""

from __future__ import annotations

import os

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

LETTERS = set("abcdefghijklmnopqrstuvwxyz0123456789.-")
"""Of which the names of our units consist."""
SHOWN_PROPERTIES = "--property=Id,ActiveState,SubState,UnitFileState,NeedDaemonReload,Result,StatusText"
DROP_IN_ROOTS = ("/run/systemd/system", "/etc/systemd/system.control", "/run/systemd/system.control")
"""Where ``systemctl edit --runtime`` and ``systemctl set-property`` write drop-ins."""


def is_ours(name: str) -> bool:
    """Tell whether a unit's name is one of sparkfleet's."""
    inner = name.removeprefix("sparkfleet-").removesuffix(".service")
    return name == "sparkfleet-%s.service" % inner and bool(inner) and set(inner) <= LETTERS


def collect_units() -> dict[str, Any]:
    """Return each unit of sparkfleet: its text, drop-ins, and state by systemd."""
    if not os.path.isdir("/run/systemd/system"):
        return {"state": "missing"}
    units: dict[str, dict[str, Any]] = {}
    unit_names = [name.removesuffix(".d") for name in os.listdir(basics.UNIT_DIR)]
    names = sorted({name for name in unit_names if is_ours(name)})
    for name in names:
        drop_ins = {}
        for directory in ("%s/%s.d" % (root, name) for root in (basics.UNIT_DIR, *DROP_IN_ROOTS)):
            if os.path.isdir(directory):
                for entry in sorted(file for file in os.listdir(directory) if file.endswith(".conf")):
                    drop_ins[os.path.join(directory, entry)] = (
                        basics.read_text(os.path.join(directory, entry)) or ""
                    )
        units[name] = {"text": basics.read_text(os.path.join(basics.UNIT_DIR, name)), "drop_ins": drop_ins}
    if names:
        for block in commands.output("systemctl", "show", SHOWN_PROPERTIES, *names).strip().split("\n\n"):
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
