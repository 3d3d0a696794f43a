"""Preflight rows for traces of other tools and manual setup: reported with a remedy, never removed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from sparkfleet import runtimes
from sparkfleet.plan import other_tools
from sparkfleet.plan.preflight.model import Check, failed, incomplete, warned
from sparkfleet.probe.preflight import Footprints, ObservedPreflight, Resident, Unread

OURS = "sparkfleet"


def rows(observed: ObservedPreflight) -> Iterator[Check]:
    """Yield a row for each trace, or one row that there are none."""
    found = [*_containers(observed.residents)]
    if isinstance(observed.footprints, Unread):
        found.append(incomplete("other tools", observed.footprints.error))
    else:
        found += _files(observed.footprints)
    yield from found or [Check("other tools", "no traces")]


def _containers(residents: tuple[Resident, ...]) -> Iterator[Check]:
    engine = re.compile("|".join(map(re.escape, other_tools.in_containers())), re.IGNORECASE)
    for one in residents:
        if one.ours or not engine.search(f"{one.name} {one.image} {one.command}"):
            continue
        name, found = f"container {one.name}", f"{one.image}, {one.state}, not managed by sparkfleet"
        if one.state != "running":
            yield Check(name, found)
            continue
        yield warned(
            name,
            found,
            "no other engine: it uses memory, and may restart at boot",
            runtimes.get(runtimes.DEFAULT).disable_command(one.name),
            code="unmanaged-engine",
        )


def _files(footprints: Footprints) -> Iterator[Check]:
    for error in footprints.sudoers_errors:
        file = error.partition(":")[0]
        hint = f"sudo visudo -f {file}; sudo visudo -c"
        yield failed("sudoers", error, "rules that visudo -c accepts", hint, code="sudoers-invalid")
    for path, devices in footprints.netplan.items():
        name = PurePosixPath(path).name
        if OURS in name:
            continue
        who = other_tools.netplan_tool(name) or "another tool, or by hand"
        yield warned(
            f"netplan {name}",
            f"{', '.join(devices)} configured by {who}",
            "fabric links that one tool alone configures",
            f"keep it and declare no fabric, or: sudo mv {path} {path}.off",
            code="netplan-file-conflict",
        )
    for name, state in footprints.killers.items():
        yield _killer(name, state)
    for path, entries in footprints.sudoers.items():
        if OURS not in path:
            yield Check(f"sudoers {PurePosixPath(path).name}", f"gives {', '.join(entries)}")
    for path, entries in footprints.units.items():
        if OURS not in PurePosixPath(path).name:
            name = PurePosixPath(path).name
            yield warned(
                f"unit {name}",
                f"manual setup: {', '.join(entries)}",
                "no other unit that starts an engine",
                f"systemctl cat {name}; sudo systemctl disable --now {name}",
                code="unmanaged-engine",
            )
    for path in footprints.directories:
        yield Check(f"directory {path}", "files of other tools")


def _killer(name: str, state: str) -> Check:
    if state != "active":
        return Check(name, f"installed, {state}")
    return warned(
        name,
        "active: it kills the largest process when memory is low, usually the engine",
        "only the supervisor of each engine",
        f"sudo systemctl disable --now {name}",
        code="oom-killer-active",
    )
