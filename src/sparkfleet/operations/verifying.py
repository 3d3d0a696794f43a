"""Operation: the model files of every declared service have the content that the lock file says."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from uuid import uuid4

from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from sparkfleet.errors import Problem
from sparkfleet.operations.edge import remote
from sparkfleet.operations.run import acting, looking
from sparkfleet.plan import verification
from sparkfleet.plan.model import Entry, Sign, Step
from sparkfleet.spec.resolved import Weights


@operation()
def hashed() -> Generator[FunctionCommand, None, None]:
    """Read and hash what was not hashed in its present state; fail where something is not as locked."""
    yield from acting.commands(state, host, Step.VERIFY, _verify)


def _verify(act: acting.Acting, entries: tuple[Entry, ...]) -> None:
    spec = looking.declared(act.host)
    models = looking.login_user(act.host).expand(spec.paths.models)
    declared = verification.repositories(spec)
    asked = [(entry, one) for entry in entries for one in declared if verification.concerns(entry, one)]
    result = _hash(act, models, [weights for _, weights in asked])
    problems = []
    for entry, weights in asked:
        known = [change.key for change in entry.changes if change.sign is Sign.NOTE]
        found = result["changed"].get(f"{weights.repo}@{weights.revision}", [])
        problem = verification.not_as_locked(act.host.name, weights, [*known, *found])
        problems += [problem] if problem else []
    if problems:
        raise acting.FailedError(*problems)
    act.run.done[f"{act.host.name} models"] = "as locked, by their hashes"


def _hash(act: acting.Acting, models: str, repositories: list[Weights]) -> dict[str, Any]:
    job = f"stage-verify-{uuid4().hex[:8]}"
    wanted = [
        {
            "repo": weights.repo,
            "revision": weights.revision,
            "files": [{"path": file.path, "size": file.size, "blob": file.blob} for file in weights.files],
        }
        for weights in repositories
    ]
    again = bool(act.host.data.get(verification.AGAIN))
    request = {"id": job, "verify": {"models_dir": models, "again": again, "repositories": wanted}}
    answer = remote.program(act.host, "stage", data=request, timeout=60)
    if not answer.ok:
        said = (answer.err or answer.out).strip()[-300:]
        raise acting.FailedError(
            Problem(act.host.name, f"hashing could not begin: {said}", remedy="run again")
        )
    result = act.watch(job, "verify")
    if result.get("outcome") != "staged":
        found = str(result.get("cause") or "hashing failed")
        raise acting.FailedError(
            Problem(act.host.name, found, remedy=str(result.get("remedy") or "run again"))
        )
    return result
