"""Starts a rollout in a transient unit, which survives the operator's connection and its own crash."""

from __future__ import annotations

import sys
from pathlib import Path

from sparkfleet.contract.codec import NEWER, ContractError
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.contract.rollout import RolloutStarted
from sparkfleet.onhost.machine import files, runtime_wait
from sparkfleet.onhost.machine.memory_max import ROLLOUT_MIB, memory_max
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.rollout import rollout
from sparkfleet.onhost.state import store, units

BUSY = 75
"""Exit code: another rollout is in progress; its id is on stdout (EX_TEMPFAIL)."""
BOOT_S = 300.0
"""Seconds that a boot waits for the runtime when there is a rollout to finish."""
INTERNAL = 70
"""Exit code of ``rollout-run`` after an internal error: systemd starts it again (EX_SOFTWARE)."""


def request(system: System, requested: RolloutRequest) -> tuple[int, RolloutStarted]:
    """Write the request and start it detached. Return exit code and response, without waiting."""
    state = system.paths.state
    directory = store.rollout_directory(state, requested.id)
    try:
        return _request(system, requested, directory)
    except OSError as error:
        return 1, RolloutStarted(diagnostic=rollout.unwritable(state, error))
    except ContractError as error:  # an unfinished rollout of a newer version: it must end first
        return 1, RolloutStarted(diagnostic=error.diagnostic)


def _request(system: System, requested: RolloutRequest, directory: Path) -> tuple[int, RolloutStarted]:
    state = system.paths.state
    if store.was_requested(state, requested.id):
        return 0, RolloutStarted(requested.id, "was requested before")
    try:
        with store.lock(state, wait=False):
            in_progress = _readable(system, _not_ended(system, store.unfinished(state)))
            if not in_progress:
                files.write_document(directory / "request.json", requested, mode=0o600)
                problem = start(system, requested.id)
                if problem:
                    files.remove(directory)
                    return 1, RolloutStarted(diagnostic=not_started(requested.id, problem))
                return 0, RolloutStarted(requested.id, "started")
            # Its program may have been stopped by hand: an unfinished rollout is always finished first.
            resume(system, in_progress[0])
    except store.BusyError:
        in_progress = store.unfinished(state)
    other = in_progress[0] if in_progress else ""
    text = f"another rollout is in progress: {other or 'a change of a unit'}"
    return BUSY, RolloutStarted(other, text)


def not_started(rollout_id: str, problem: str) -> Diagnostic:
    """Return the diagnostic of a rollout whose unit systemd did not start."""
    hint = "run again: the new plan shows the current state"
    return Diagnostic(unit_name(rollout_id), problem, hint=hint, code="unit-failed")


def _not_ended(system: System, rollout_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the rollouts without a result. One that was kept in memory, because the disk could not be
    written, gets its place now. Raise OSError while that is still so. The caller holds the lock.
    """
    found = []
    for rollout_id in rollout_ids:
        fallback = store.rollout_fallback(system.paths.run, rollout_id) / "result.json"
        if fallback.exists():
            directory = store.rollout_directory(system.paths.state, rollout_id)
            files.write_atomic(directory / "result.json", fallback.read_text(encoding="utf-8"))
        else:
            found.append(rollout_id)
    return tuple(found)


def _readable(system: System, rollout_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Quarantine the rollouts that cannot be read; return the others. The caller holds the lock.

    Raise ContractError for one of a newer version.
    """
    found = []
    for rollout_id in rollout_ids:
        try:
            rollout.require_readable(system, rollout_id)
        except ContractError as error:
            rollout.quarantine(system, rollout_id, error)
        else:
            found.append(rollout_id)
    return tuple(found)


def start(system: System, rollout_id: str) -> str:
    """Run ``rollout-run`` in a unit of its own; return "" or the problem. One that runs is left alone."""
    if runs(system, rollout_id):
        return ""
    properties = (
        "Description=sparkfleet: rollout",
        "Restart=on-failure",
        "RestartSec=1",
        "SuccessExitStatus=1",
        "StartLimitIntervalSec=0",
        "OOMScoreAdjust=-900",
        memory_max(ROLLOUT_MIB),
        "KillMode=process",
    )
    result = system.run(
        (
            *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit_name(rollout_id)}"),
            *(f"--property={entry}" for entry in properties),
            *units.PYTHON.split(),
            *("rollout-run", rollout_id),
        )
    )
    return f"systemd-run: {result.text}" if result.code else ""


def resume(system: System, rollout_id: str) -> str:
    """Continue an unfinished rollout whose program does not run; return "" or the problem.

    Right after a boot the recovery does that: services start after it. A rollout that holds the lock and
    starts a service, while the recovery waits for the lock, would wait for ever.
    """
    enabled = systemctl(system, "is-enabled", units.RECOVER).out.strip() == "enabled"
    state = systemctl(system, "is-active", units.RECOVER).out.strip()
    if enabled and state in {"inactive", "activating"}:
        systemctl(system, "start", "--no-block", units.RECOVER)
        return ""
    return start(system, rollout_id)


def require_not_newer(system: System, rollout_id: str) -> None:
    """Raise ContractError for a rollout of a newer version, which these programs cannot continue."""
    try:
        rollout.require_readable(system, rollout_id)
    except ContractError as error:
        if error.diagnostic.code == NEWER:
            raise


def unit_name(rollout_id: str) -> str:
    """Return the unit that a rollout runs in."""
    return f"sparkfleet-rollout-{store.check_rollout_id(rollout_id)}.service"


def runs(system: System, rollout_id: str) -> bool:
    """Return whether a rollout's program runs or will be restarted, also one of an earlier version."""
    names = (unit_name(rollout_id), f"sparkfleet-swap-{rollout_id}.service")
    states = (systemctl(system, "is-active", name).out.strip() for name in names)
    return any(state in {"active", "activating"} for state in states)


def recover(system: System) -> list[str]:
    """At boot: restore what every unfinished rollout changed, then let it finish detached. Return their ids.

    A rollout that runs was requested since the boot: it holds the lock, and a service that it starts waits
    for this. It is left alone. So is one of a newer version: it waits for newer programs, and no boot for it.
    """
    rollout_ids = [
        rollout_id for rollout_id in store.unfinished(system.paths.state) if not runs(system, rollout_id)
    ]
    if not rollout_ids:
        return []
    waiting: list[str] = []
    deadline = system.monotonic() + BOOT_S
    for runtime in rollout.runtimes(system, rollout_ids):
        runtime_wait.wait(system, runtime, lambda _: None, lambda: system.monotonic() >= deadline)
    with store.lock(system.paths.state):
        for rollout_id in rollout_ids:
            try:
                _settle(system, rollout_id)
            except ContractError as error:
                waiting.append(rollout_id)
                sys.stderr.write(f"sparkfleet: rollout {rollout_id} is not continued: {error}\n")
    unfinished = store.unfinished(system.paths.state)
    continued = [one for one in rollout_ids if one in unfinished and one not in waiting]
    for rollout_id in continued:
        start(system, rollout_id)
    return continued


def _settle(system: System, rollout_id: str) -> None:
    """Restore what a rollout changed, or quarantine it. Raise ContractError for one of a newer version."""
    try:
        rollout.require_readable(system, rollout_id)
        rollout.settle(system, rollout_id)
    except ContractError as error:
        rollout.quarantine(system, rollout_id, error)
