"""The plan of ``deploys/verify.py``: wrong model files, and files to hash. Pure.

A file is verified when it was hashed in its present state and has the locked hash. Partial, changed and
unexpected files are known without reading; all others are read once.
"""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Host, WeightFile, Weights
from sparkfleet.plan import host_changes
from sparkfleet.plan.model import ChangeSet, HostPlan, Note, Scope, Step
from sparkfleet.plan.operations import SHORT_COMMIT, VerifyWeights, WriteFile
from sparkfleet.plan.staging import snapshot_key, weights_key, wrong_files
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.response import VERIFIED

AGAIN = "verify_again"
"""pyinfra data (``--data verify_again=yes``): hash all files again."""


def verify_plan(host: Host, observed: Observed, whole: HostPlan, *, again: bool = False) -> HostPlan:
    """Return the files to hash on a Spark, and the known wrong ones.

    ``whole`` is the plan of a deploy: only its update of the programs is executed, since they hash.
    ``again``: hash all files again, for disks that are not trusted.
    """
    if whole.unknown:
        return whole
    each = (_change_set(host, weights, observed, again=again) for weights in repositories(host))
    unreadable = observed.unreadable.get(VERIFIED)
    found = [one and replace(one, blocked=combine(one.blocked, unreadable)) for one in each]
    sets = [one for one in found if one is not None]
    first = _programs(whole) if any(not one.blocked for one in sets) else []
    return HostPlan(host.name, (*first, *sets))


def _programs(whole: HostPlan) -> list[ChangeSet]:
    programs = tuple(
        one
        for one in whole.operations(Step.HOST)
        if isinstance(one, WriteFile) and one.path == host_changes.PROGRAM_PATH
    )
    return [ChangeSet("host", programs, scope=Scope.HOST)] if programs else []


def repositories(host: Host) -> tuple[Weights, ...]:
    """Return the models of a Spark's services, each once."""
    found = {weights_key(w): w for service in host.services for w in service.repositories}
    return tuple(found.values())


def to_read(weights: Weights, observed: Observed, *, again: bool = False) -> tuple[WeightFile, ...]:
    """Return the files of the right size that have no verified hash."""
    wrong = wrong_files(weights, observed)
    hashed = {} if again else observed.hashed.get(snapshot_key(weights), {})
    return tuple(
        file
        for file in weights.files
        if file.blob and file.path not in wrong and hashed.get(file.path) != (file.blob, True)
    )


def _change_set(host: Host, weights: Weights, observed: Observed, *, again: bool) -> ChangeSet | None:
    wrong, reading = wrong_files(weights, observed), to_read(weights, observed, again=again)
    notes = tuple(
        Note(Step.VERIFY, why.partition(",")[0], path, why.partition(", ")[2])
        for path, (_, why) in wrong.items()
    )
    if not reading and not notes:
        return None
    amount = sum(file.size for file in reading)
    operation = VerifyWeights(weights.repo, weights.revision, len(reading), amount, weights, tuple(wrong))
    return ChangeSet(
        weights.repo,
        (operation,),
        notes=notes,
        blocked=None if reading else wrong_files_diagnostic(host.name, weights, list(wrong)),
    )


def wrong_files_diagnostic(where: str, weights: Weights, paths: list[str]) -> Diagnostic | None:
    """Return the diagnostic of files that are not as locked; None without any."""
    if not paths:
        return None
    shown = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")  # noqa: PLR2004
    return Diagnostic(
        f"{where}: {weights.repo}",
        f"{len(paths)} of {len(weights.files)} files are not as locked: {shown}",
        f"the files of commit {weights.revision[:SHORT_COMMIT]}",
        f"pyinfra INVENTORY deploys/stage.py --limit {where} (fetches these alone)",
        code="weights-corrupt",
    )
