"""Starting a swap so that it needs nobody: a transient unit that survives the operator, and its own death."""

from __future__ import annotations

from typing import Any

from sparkfleet.onhost import dockerd, files, store, swap, units
from sparkfleet.onhost.generation import SwapRequest
from sparkfleet.onhost.system import System, systemctl

BUSY = 75
"""Exit code: another swap goes on; its id is on stdout (EX_TEMPFAIL)."""
BOOT_S = 300.0
"""Seconds that a boot waits for dockerd, when there is a swap to finish."""
INTERNAL = 70
"""Exit code of ``swap-run`` when it died of itself: systemd starts it again (EX_SOFTWARE)."""


def request(system: System, wanted: SwapRequest) -> tuple[int, dict[str, Any]]:
    """Write the request down and start it detached. Return exit code and answer; at once in any case."""
    state = system.paths.state
    if (store.swap_directory(state, wanted.id) / "request.json").exists():
        return 0, {"swap": wanted.id, "text": "was asked for before"}
    try:
        with store.lock(state, wait=False):
            going_on = store.unfinished(state)
            if not going_on:
                directory = store.swap_directory(state, wanted.id)
                files.write_json(directory / "request.json", wanted.to_json())
                problem = start(system, wanted.id)
                if problem:
                    files.remove(directory)
                    return 1, {"error": problem}
                return 0, {"swap": wanted.id, "text": "started"}
            # Its program may have been stopped by hand: an unfinished swap is always finished first.
            start(system, going_on[0])
    except store.BusyError:
        going_on = store.unfinished(state)
    other = going_on[0] if going_on else ""
    return BUSY, {"swap": other, "text": f"another swap goes on: {other or 'a change of a unit'}"}


def start(system: System, swap_id: str) -> str:
    """Run ``swap-run`` in a unit of its own; return "" or the problem. One that runs is left alone."""
    unit = unit_name(swap_id)
    if systemctl(system, "is-active", unit).out.strip() in {"active", "activating"}:
        return ""
    properties = (
        "Description=sparkfleet: swap",
        "Restart=on-failure",
        "RestartSec=1",
        "SuccessExitStatus=1",
        "StartLimitIntervalSec=0",
        "OOMScoreAdjust=-900",
        "KillMode=process",
    )
    done = system.run(
        (
            *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}"),
            *(f"--property={entry}" for entry in properties),
            *units.PYTHON.split(),
            *("swap-run", swap_id),
        )
    )
    return f"systemd-run: {done.text}" if done.code else ""


def unit_name(swap_id: str) -> str:
    """Return the unit that a swap runs in."""
    return f"sparkfleet-swap-{store.check_swap(swap_id)}.service"


def recover(system: System) -> list[str]:
    """At boot: settle every unfinished swap, then let it finish by itself. Return their ids."""
    found: list[str] = []
    if store.unfinished(system.paths.state):
        deadline = system.monotonic() + BOOT_S
        dockerd.wait(system, lambda _: None, lambda: system.monotonic() >= deadline)
    with store.lock(system.paths.state):
        for swap_id in store.unfinished(system.paths.state):
            swap.settle(system, swap_id)
            found.append(swap_id)
    for swap_id in found:
        start(system, swap_id)
    return found
