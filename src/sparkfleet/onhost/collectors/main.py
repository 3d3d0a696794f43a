"""The probe: one JSON object, with every part on its own.

A part that fails becomes ``{"error": ...}`` and never hides the others.
"""

from __future__ import annotations

import json
import os
import sys

from sparkfleet.onhost.collectors import (
    basics,
    machine,
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


def part(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what a collector found, or its error."""
    try:
        return function(*arguments)
    except RuntimeUnavailableError as error:
        return {"state": error.state, "error": str(error)}
    except RuntimeRefusedError as error:
        return {"state": "error", "error": str(error)}
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


def collectors(names: list[str], kind: str = "probe") -> list[Any]:
    """Return the modules of runtimes that were sent with the probe; not every runtime has each kind."""
    found = ("sparkfleet.runtimes.%s.collectors.%s" % (name, kind) for name in names)
    return [sys.modules[name] for name in found if name in sys.modules]


def collect(request: dict[str, Any], user_name: str) -> dict[str, Any]:
    """Return everything that a plan needs to know about this Spark."""
    login = part(user.login_user, user_name)
    home = login.get("home", "/")

    def expand(path: str) -> str:
        return home + path[1:] if path == "~" or path.startswith("~/") else path

    models = expand(request["models_dir"])
    cache = expand(request["cache_dir"])
    names = request["runtimes"]
    own = dict(zip(names, collectors(names), strict=True))
    found_runtimes = {name: part(one.collect, request) for name, one in own.items()}
    for_gpu = part(toolkit.collect_toolkit)
    likely = [pid for one in found_runtimes.values() for pid in one.get("pids", ())]
    found = {
        "version": 1,
        "host": {"arch": os.uname().machine},
        "machine": part(machine.collect_machine),
        "sudo": part(user.sudo_state),
        "user": login,
        "memory": part(memory.memory),
        "disks": {
            "models": part(paths.disk, models),
            "cache": part(paths.disk, cache),
            **{
                "images" if name == names[0] else name: part(
                    paths.disk, found_runtimes[name].get("data") or own[name].DATA
                )
                for name in names
            },
            "state": part(paths.disk, basics.STATE_DIR),
            "units": part(paths.disk, basics.UNIT_DIR),
            "programs": part(paths.disk, "/usr/local/lib"),
        },
        "runtimes": found_runtimes,
        "toolkit": for_gpu,
        "systemd": part(units.collect_units),
        "state": part(state.collect_state),
        "paths": collect_paths({path: expand(path) for path in request.get("paths", ())}),
        "weights": part(weights.collect_weights, models, request.get("weights", ())),
        "listeners": part(ports.listeners, request.get("ports", ()), likely),
        "resources": None,
    }
    if request.get("resources") is not None:
        found["resources"] = part(collect_resources, request["resources"], login)
    if request.get("fabric"):
        from sparkfleet.onhost.collectors import fabric  # noqa: PLC0415  (sent only with a request for it)

        found["fabric"] = part(fabric.collect_fabric, request["fabric"])
    engine = found_runtimes.get("docker", {})
    installed = {"docker": engine.get("state") != "missing", "toolkit": any(for_gpu.values())}
    if request.get("install") and not all(installed[name] for name in request["install"]):
        from sparkfleet.onhost.collectors import packages  # noqa: PLC0415  (sent only with a request for it)

        to_install = [name in request["install"] and not installed[name] for name in ("docker", "toolkit")]
        found["packages"] = part(packages.collect_packages, *to_install)
    if request.get("preflight"):
        from sparkfleet.onhost.collectors import preflight  # noqa: PLC0415  (sent only with a request for it)

        found["preflight"] = preflight.collect(request["preflight"], part, collectors(names, "preflight"))
    if request.get("stored"):
        from sparkfleet.onhost.collectors import storage  # noqa: PLC0415  (sent only with a request for it)

        found["stored"] = part(storage.collect_stored, models, cache, collectors(names, "storage"))
    return found


LARGEST = 1 << 24
"""Bytes of a file that is hashed: a file that a container mounts may be large."""


def collect_paths(expanded: dict[str, str]) -> dict[str, Any]:
    """Return what is at each path, with the SHA-256 of files."""
    found = {path: part(paths.collect_path, real) for path, real in expanded.items()}
    files = [path for path in found if found[path].get("kind") == "file" and found[path]["size"] <= LARGEST]
    known = paths.hashes([expanded[path] for path in files])

    def hash_of(path: str) -> dict[str, Any]:
        real = expanded[path]
        return {"sha256": known.get(real) or basics.sha256_of(real)}

    for path in files:
        found[path].update(part(hash_of, path))
    return found


def collect_resources(requested: list[list[str]], login: dict[str, Any]) -> dict[str, Any]:
    """Return the record of resources, and their state."""
    from sparkfleet.onhost.collectors import resources  # noqa: PLC0415  (sent only with a request for it)

    return resources.observe_all(requested, login["name"], login["home"])


def main() -> None:
    """Answer the request in argv[1] (JSON)."""
    result = collect(json.loads(sys.argv[1]), user.login_name())
    print(json.dumps(result, separators=(",", ":")))
