"""Files and programs of other tools that may affect a service.

Of a file only its path and the matching words leave the Spark: a netplan file may hold the key of a wireless
network.
"""

from __future__ import annotations

import os
import re

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

FABRIC = re.compile(r"\ben[pP]\w*np\d+\b")
CLOCKS = re.compile(r"(?:-lgc|--lock-gpu-clocks)[= ]\d+(?:,\d+)?")
KILLERS = ("earlyoom", "nohang")


def collect_footprints(programs: list[str], directories: list[str]) -> dict[str, Any]:
    """Return files of netplan and sudo, out-of-memory killers, units of engines and GPU clocks, directories.

    ``programs`` are programs that start an engine.
    """
    engines = "|".join(map(re.escape, programs))
    rights = re.compile(r"\b(drop_caches|docker|nvidia-smi|netplan|%s|NOPASSWD:\s*ALL)\b" % engines)
    starts = re.compile(r"\b(%s|docker (?:run|start|compose))\b" % engines)
    return {
        "netplan": _matches("/etc/netplan", ".yaml", FABRIC),
        "sudoers": _matches("/etc/sudoers.d", "", rights),
        "sudoers_errors": _sudoers_errors(),
        "units": _matches(basics.UNIT_DIR, ".service", starts),
        "clocks": _matches(basics.UNIT_DIR, ".service", CLOCKS),
        "killers": _killers(),
        "directories": [path for path in directories if os.path.isdir(path)],
    }


def _matches(folder: str, ending: str, pattern: re.Pattern[str]) -> dict[str, list[str]]:
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if not name.endswith(ending) or not os.path.isfile(path) or os.path.islink(path):
            continue
        lines = (basics.read_text(path) or "").splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        matches = sorted({match.group() for match in pattern.finditer(text)})
        if matches:
            found[path] = matches
    return found


def _sudoers_errors() -> list[str]:
    code, out, err = commands.run("visudo", "-c")
    if code == 127:
        return []
    wrong = [line.strip() for line in (err + out).splitlines() if "parsed OK" not in line]
    return [line for line in wrong if re.search(r":\d+", line)] or ([commands.last_line(err)] if code else [])


def _killers() -> dict[str, str]:
    states = commands.run("systemctl", "is-active", *KILLERS)[1].split()
    rows = zip(KILLERS, states)  # noqa: B905  (one state a unit)
    return {name: state for name, state in rows if state == "active" or basics.which(name)}
