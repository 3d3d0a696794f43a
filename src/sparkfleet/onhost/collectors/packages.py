"""What apt would install for Docker and the NVIDIA container toolkit, by its present lists.

Only simulated, and without the cache that apt would write.
"""

from __future__ import annotations

import re

from sparkfleet.onhost.collectors import commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

ENGINES = ("docker-ce", "docker.io")
"""Docker's own package, as on DGX OS, is preferred to the distribution's."""
TOOLKIT = "nvidia-container-toolkit"
NO_CACHE = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")


def collect_packages(docker: bool, toolkit: bool) -> dict[str, Any]:
    """Return what apt would install and remove for Docker and the toolkit, each if requested."""
    known = _candidates()
    engine = next((name for name in ENGINES if name in known), "")
    names = ([engine or " or ".join(ENGINES)] if docker else []) + ([TOOLKIT] if toolkit else [])
    missing = [name for name in names if name not in known]
    if missing:
        return {"requested": names, "missing": missing}
    argv = ("--simulate", "--no-install-recommends", *NO_CACHE, "install", *names)
    code, out, err = commands.run("env", "LC_ALL=C", "apt-get", *argv)
    if code:
        errors = [line for line in err.splitlines() if line.startswith("E:")]
        return {"requested": names, "error": (errors or [commands.last_line(err + out)])[0]}
    rows = re.findall(r"^Inst (\S+) (?:\[([^\]\n]*)\] )?\((\S+)", out, re.MULTILINE)
    return {
        "requested": names,
        "install": [list(row) for row in rows],
        "remove": sorted(set(re.findall(r"^(?:Remv|Purg) (\S+)", out, re.MULTILINE))),
    }


def _candidates() -> set[str]:
    """Return those of the packages that apt could install."""
    out = commands.run("env", "LC_ALL=C", "apt-cache", *NO_CACHE, "policy", *ENGINES, TOOLKIT)[1]
    blocks = re.findall(r"^(\S+):\n(?:  .*\n)*?  Candidate: (.+)$", out, re.MULTILINE)
    return {name for name, version in blocks if version != "(none)"}
