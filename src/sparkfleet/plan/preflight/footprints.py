"""Preflight rows for traces of other tools and manual setup: reported with a remedy, never removed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from sparkfleet.plan import other_tools
from sparkfleet.plan.preflight.model import Check, Verdict, unread
from sparkfleet.probe.preflight import Footprints, PreflightSeen, Resident, Unread

OURS = "sparkfleet"
_IN_CONTAINERS = ("tensorrt-llm", "llama", "pulsar", "sparkrun", "ray start")
"""Words that start an engine in a container, beside ``other_tools.programs``."""


def rows(seen: PreflightSeen) -> Iterator[Check]:
    """Yield a row for each trace, or one row that there are none."""
    found = [*_containers(seen.residents)]
    if isinstance(seen.footprints, Unread):
        yield unread("other tools", seen.footprints.error)
    else:
        found += _files(seen.footprints)
    yield from found or (
        [] if isinstance(seen.footprints, Unread) else [Check("other tools", Verdict.OK, "no traces")]
    )


def _containers(residents: tuple[Resident, ...]) -> Iterator[Check]:
    patterns = map(re.escape, (*other_tools.programs(), *_IN_CONTAINERS))
    engine = re.compile("|".join(patterns), re.IGNORECASE)
    for one in residents:
        if one.ours or not engine.search(f"{one.name} {one.image} {one.command}"):
            continue
        running = one.state == "running"
        yield Check(
            f"container {one.name}",
            Verdict.WARN if running else Verdict.OK,
            f"{one.image}, {one.state}, not managed by sparkfleet",
            "no other engine: it uses memory, and may restart at boot" if running else "",
            f"docker update --restart=no {one.name} && docker stop {one.name}" if running else "",
        )


def _files(seen: Footprints) -> Iterator[Check]:
    for error in seen.sudoers_errors:
        file = error.partition(":")[0]
        remedy = f"sudo visudo -f {file}; sudo visudo -c"
        yield Check("sudoers", Verdict.FAIL, error, "rules that visudo -c accepts", remedy)
    for path, devices in seen.netplan.items():
        name = PurePosixPath(path).name
        if OURS in name:
            continue
        who = other_tools.netplan_tool(name) or "another tool, or by hand"
        yield Check(
            f"netplan {name}",
            Verdict.WARN,
            f"{', '.join(devices)} configured by {who}",
            "fabric links that one tool alone configures",
            f"keep it and declare no fabric, or: sudo mv {path} {path}.off",
        )
    for name, state in seen.killers.items():
        yield _killer(name, state)
    for path, entries in seen.sudoers.items():
        if OURS not in path:
            yield Check(f"sudoers {PurePosixPath(path).name}", Verdict.OK, f"gives {', '.join(entries)}")
    for path, entries in seen.units.items():
        if OURS not in PurePosixPath(path).name:
            name = PurePosixPath(path).name
            yield Check(
                f"unit {name}",
                Verdict.WARN,
                f"manual setup: {', '.join(entries)}",
                "no other unit that starts an engine",
                f"systemctl cat {name}; sudo systemctl disable --now {name}",
            )
    for path in seen.directories:
        yield Check(f"directory {path}", Verdict.OK, "files of other tools")


def _killer(name: str, state: str) -> Check:
    if state != "active":
        return Check(name, Verdict.OK, f"installed, {state}")
    return Check(
        name,
        Verdict.WARN,
        "active: it kills the largest process when memory is low, usually the engine",
        "only the supervisor of each engine",
        f"sudo systemctl disable --now {name}",
    )
