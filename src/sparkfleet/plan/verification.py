"""What a verification of model files finds and would read: its own plan, beside that of a deploy. Pure.

A file is right when it was hashed in its present state and its content is the locked one. What is partial,
changed or foreign is known without reading; all else is read once.
"""

from __future__ import annotations

from sparkfleet.config.resolved import Host, WeightFile, Weights
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan import host_changes
from sparkfleet.plan.model import Change, Entry, HostPlan, Sign, Step, Verb
from sparkfleet.plan.staging import weights_key, wrong_files
from sparkfleet.plan.units import size
from sparkfleet.probe.observed import Observed

AGAIN = "verify_again"
"""pyinfra data (``--data verify_again=yes``): what was hashed before is read once more."""
SHORT = 7
"""Digits of a commit that are shown."""


def verify_plan(host: Host, observed: Observed, whole: HostPlan, *, again: bool = False) -> HostPlan:
    """Return what is to be hashed on a Spark and what is known to be wrong there.

    ``whole`` is the plan of a deploy: of it only our own programs are brought up to date, since they hash.
    ``again``: what was hashed before is read once more, for disks that are not trusted.
    """
    if whole.unknown:
        return whole
    entries = [_entry(host, weights, observed, again=again) for weights in repositories(host)]
    found = [entry for entry in entries if entry is not None]
    first = _programs(whole) if any(entry.steps(Step.VERIFY) for entry in found) else []
    return HostPlan(host.name, (*first, *found))


def _programs(whole: HostPlan) -> list[Entry]:
    rows = [
        change
        for entry in whole.entries
        for change in entry.steps(Step.HOST)
        if change.field == host_changes.PROGRAMS
    ]
    return [Entry("host", Verb.PREPARE, tuple(rows))] if rows else []


def repositories(host: Host) -> tuple[Weights, ...]:
    """Return the models of a Spark's services, each once."""
    found = {weights_key(w): w for service in host.services for w in service.repositories}
    return tuple(found.values())


def to_read(weights: Weights, observed: Observed, *, again: bool = False) -> tuple[WeightFile, ...]:
    """Return the files whose content is not known: those that are there with their size, and not hashed."""
    wrong = wrong_files(weights, observed)
    hashed = {} if again else observed.hashed.get(weights_key(weights), {})
    return tuple(
        file
        for file in weights.files
        if file.blob and file.path not in wrong and hashed.get(file.path) != (file.blob, True)
    )


def concerns(entry: Entry, weights: Weights) -> bool:
    """Tell whether an entry of such a plan has the hashing of this model at this commit."""
    commits = [change.key for change in entry.steps(Step.VERIFY)]
    return entry.subject == weights.repo and weights.revision[:SHORT] in commits


def _entry(host: Host, weights: Weights, observed: Observed, *, again: bool) -> Entry | None:
    wrong, reading = wrong_files(weights, observed), to_read(weights, observed, again=again)
    notes = [
        Change(Step.VERIFY, Sign.NOTE, why.partition(",")[0], path, new=why.partition(", ")[2])
        for path, (_, why) in wrong.items()
    ]
    if reading:
        amount = size(sum(file.size for file in reading))
        what = f"{len(reading)} of {len(weights.files)} files"
        commit = weights.revision[:SHORT]
        notes.append(Change(Step.VERIFY, Sign.CHANGE, "hash", commit, new=what, note=f"{amount} to read"))
    if not notes:
        return None
    return Entry(
        weights.repo,
        Verb.VERIFY,
        tuple(notes),
        blocked=None if reading else not_as_locked(host.name, weights, list(wrong)),
    )


def not_as_locked(where: str, weights: Weights, paths: list[str]) -> Diagnostic | None:
    """Return what is told of files that are not as locked, and what brings them; None without any."""
    if not paths:
        return None
    shown = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")  # noqa: PLR2004
    return Diagnostic(
        f"{where}: {weights.repo}",
        f"{len(paths)} of {len(weights.files)} files are not as locked: {shown}",
        f"the files of commit {weights.revision[:SHORT]}",
        f"pyinfra INVENTORY deploys/stage.py --limit {where} (fetches these alone)",
    )
