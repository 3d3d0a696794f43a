"""What apt would install for Docker and the NVIDIA container toolkit, by the lists that it has now.

Only simulated, and without the cache that apt would write.
"""

from __future__ import annotations

import re

from sparkfleet.onhost.collectors import commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

ENGINES = ("docker-ce", "docker.io")
"""Docker's own package, as on DGX OS, before the distribution's."""
TOOLKIT = "nvidia-container-toolkit"
NO_CACHE = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")


def look_at_packages(docker: bool, toolkit: bool) -> dict[str, Any]:
    """Return what would be installed and removed so that Docker and the toolkit are there, each if asked."""
    known = _candidates()
    engine = next((name for name in ENGINES if name in known), "")
    wanted = ([engine or " or ".join(ENGINES)] if docker else []) + ([TOOLKIT] if toolkit else [])
    missing = [name for name in wanted if name not in known]
    if missing:
        return {"wanted": wanted, "missing": missing}
    argv = ("--simulate", "--no-install-recommends", *NO_CACHE, "install", *wanted)
    code, out, err = commands.run("env", "LC_ALL=C", "apt-get", *argv)
    if code:
        said = [line for line in err.splitlines() if line.startswith("E:")] or [commands.last_line(err + out)]
        return {"wanted": wanted, "error": said[0]}
    rows = re.findall(r"^Inst (\S+) (?:\[([^\]]*)\] )?\((\S+)", out, re.MULTILINE)
    return {
        "wanted": wanted,
        "install": [list(row) for row in rows],
        "remove": sorted(set(re.findall(r"^(?:Remv|Purg) (\S+)", out, re.MULTILINE))),
    }


def _candidates() -> set[str]:
    """Return those packages of interest that apt could install."""
    out = commands.run("env", "LC_ALL=C", "apt-cache", *NO_CACHE, "policy", *ENGINES, TOOLKIT)[1]
    blocks = re.findall(r"^(\S+):\n(?:  .*\n)*?  Candidate: (.+)$", out, re.MULTILINE)
    return {name for name, version in blocks if version != "(none)"}
