"""The one read-only look at a Spark: every part on its own, one JSON object between two marks.

What fails becomes ``{"error": ...}`` of that part and never hides the others.
"""

from __future__ import annotations

import json
import os
import sys

from sparkfleet.onhost.collectors import (
    basics,
    docker,
    memory,
    paths,
    ports,
    state,
    toolkit,
    units,
    user,
    weights,
)
from sparkfleet.runtimes.errors import RuntimeRefusedError, RuntimeUnavailableError

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BEGIN = "<<sparkfleet-probe>>"
END = "<</sparkfleet-probe>>"


def part(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what a function found, or its error."""
    try:
        return function(*arguments)
    except RuntimeUnavailableError as error:
        return {"state": error.state, "error": str(error)}
    except RuntimeRefusedError as error:
        return {"state": "error", "error": str(error)}
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


def look(request: dict[str, Any], login: str) -> dict[str, Any]:
    """Return everything that a plan needs to know of this Spark."""
    who = part(user.login_user, login)
    home = who.get("home", "/")

    def expand(path: str) -> str:
        return home + path[1:] if path == "~" or path.startswith("~/") else path

    models = expand(request["models_dir"])
    cache = expand(request["cache_dir"])
    engines = part(docker.look_at_docker, request)
    for_gpu = part(toolkit.look_at_toolkit)
    likely = [seen["pid"] for seen in engines.get("containers", ())]
    found = {
        "schema": 1,
        "host": {
            "name": os.uname().nodename,
            "arch": os.uname().machine,
            "kernel": os.uname().release,
            "python": sys.version.split()[0],
        },
        "sudo": part(user.sudo_state),
        "user": who,
        "memory": part(memory.memory),
        "disks": {
            "models": part(paths.disk, models),
            "cache": part(paths.disk, cache),
            "docker": part(paths.disk, "/var/lib/docker"),
            "state": part(paths.disk, basics.STATE_DIR),
            "units": part(paths.disk, basics.UNIT_DIR),
            "programs": part(paths.disk, "/usr/local/lib"),
        },
        "docker": engines,
        "toolkit": for_gpu,
        "systemd": part(units.look_at_units),
        "state": part(state.look_at_state),
        "paths": {path: part(paths.look_at_path, expand(path)) for path in request.get("paths", ())},
        "weights": part(weights.look_at_weights, models, request.get("weights", ())),
        "listeners": part(ports.listeners, request.get("ports", ()), likely),
        "items": part(look_at_items, request["items"], who) if "items" in request else {},
    }
    if request.get("fabric"):
        from sparkfleet.onhost.collectors import fabric  # noqa: PLC0415  (sent along for it alone)

        found["fabric"] = part(fabric.look_at_fabric, request["fabric"])
    there = {"docker": engines.get("state") != "missing", "toolkit": any(for_gpu.values())}
    if request.get("install") and not all(there[name] for name in request["install"]):
        from sparkfleet.onhost.collectors import packages  # noqa: PLC0415  (sent along for it alone)

        wanted = [name in request["install"] and not there[name] for name in ("docker", "toolkit")]
        found["packages"] = part(packages.look_at_packages, *wanted)
    if request.get("preflight"):
        from sparkfleet.onhost.collectors import preflight  # noqa: PLC0415  (sent along for it alone)

        found["preflight"] = preflight.look(request["preflight"], part)
    if request.get("stored"):
        from sparkfleet.onhost.collectors import stored  # noqa: PLC0415  (sent along for it alone)

        found["stored"] = part(stored.look_at_stored, models, cache)
    return found


def look_at_items(asked: list[list[str]], who: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked for of the Spark itself; its module comes only with a look that needs it."""
    from sparkfleet.onhost.collectors import resources  # noqa: PLC0415

    return resources.observe_all(asked, who["name"], who["home"])


def main() -> None:
    """Answer the request in argv[1] (JSON)."""
    result = look(json.loads(sys.argv[1]), user.login_name())
    print(BEGIN + json.dumps(result, separators=(",", ":")) + END)
