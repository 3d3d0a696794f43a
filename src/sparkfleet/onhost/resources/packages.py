"""Packages from the Spark's own sources: installed with what they need, held, and taken back just so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources.base import RefusedError, Thing, must

APT = (
    *("env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "apt-get", "--yes"),
    *("--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"),
)
APT_S = 1200
"""Seconds for a download and its installation over a slow line."""


def check_package(system: System, thing: Thing) -> None:
    """Refuse what apt does not have, or what would remove something."""
    words = _simulated(system, "install", thing.key)
    if words.code:
        must(system, (*APT, "update", "--quiet"), APT_S)
        words = _simulated(system, "install", thing.key)
    if words.code:
        said = [line for line in words.err.splitlines() if line.startswith("E:")] or [words.text]
        raise RefusedError(
            said[0].removeprefix("E: "), "a package of the Spark's own sources", "mend the name"
        )
    gone = _named("Remv|Purg", words.out)
    if gone:
        raise RefusedError(
            f"apt would remove {', '.join(gone)}", "nothing to be removed", "install it by hand"
        )


def _simulated(system: System, *words: str) -> Any:
    return system.run((*APT, "--simulate", *words), APT_S)


def _named(what: str, text: str) -> list[str]:
    return sorted(set(re.findall(rf"^(?:{what}) (\S+)", text, re.MULTILINE)))


def what_comes_with(system: System, thing: Thing) -> dict[str, Any]:
    """Return all packages that will be installed: those are ours to remove again."""
    return {"with": _named("Inst", _simulated(system, "install", thing.key).out)}


def put_package(system: System, thing: Thing) -> None:
    """Install it, without recommendations."""
    must(system, (*APT, "install", thing.key), APT_S)


def passed_on(entry: Mapping[str, Any], stays: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what came with a package and is declared by its own name: on record from now on for itself."""
    if entry["kind"] != "package":
        return {}
    came = list(entry["before"].get("with", ()))
    own = [name for name in came if f"package {name}" in stays]
    entry["before"]["with"] = [name for name in came if name not in own]
    return {
        f"package {name}": {
            "kind": "package",
            "key": name,
            "arg": "",
            "before": {"is": "absent", "with": [name]},
            "put": {"is": "installed"},
        }
        for name in own
    }


def back_package(system: System, entry: Mapping[str, Any], _: tuple[str, ...]) -> None:
    """Remove it with all that came with it; what others need by now stays."""
    key, came = entry["key"], list(entry["before"].get("with", ()))
    for names in ([*came, *([] if key in came else [key])], [key]):
        gone = _named("Remv|Purg", _simulated(system, "purge", *names).out)
        if set(gone) <= {key, *came}:
            must(system, (*APT, "purge", *names), APT_S)
            return
    raise RefusedError(f"other packages need {key} by now", "nobody who needs it", f"apt-get remove {key}")


def put_hold(system: System, thing: Thing) -> None:
    """Hold what is free."""
    _mark(system, "hold", str(thing.live["free"]).split())


def back_hold(system: System, entry: Mapping[str, Any], _: tuple[str, ...]) -> None:
    """Free what was free before."""
    _mark(system, "unhold", str(entry["before"]["free"]).split())


def _mark(system: System, how: str, names: Sequence[str]) -> None:
    if names:
        must(system, ("apt-mark", how, *names))
