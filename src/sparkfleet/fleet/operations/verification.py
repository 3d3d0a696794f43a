"""Operation: the model files of every declared service have the content that the lock file says."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from uuid import uuid4

from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from sparkfleet.config.resolved import Weights
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan import verification
from sparkfleet.plan.model import Operation, Step
from sparkfleet.plan.operations import VerifyWeights


@operation()
def hashed() -> Generator[FunctionCommand, None, None]:
    """Read and hash what was not hashed in its present state; fail where something is not as locked."""
    yield from executor.commands(state, host, Step.VERIFY, _verify)


def _verify(act: executor.Acting, operations: tuple[Operation, ...]) -> None:
    spec = spark_plan.declared(act.host)
    models = spark_plan.login_user(act.host).expand(spec.paths.models)
    verified = [one for one in operations if isinstance(one, VerifyWeights)]
    result = _hash(act, models, [one.weights for one in verified])
    diagnostics = []
    for one in verified:
        changed = result["changed"].get(f"{one.repository}@{one.revision}", [])
        diagnostic = verification.not_as_locked(act.host.name, one.weights, [*one.wrong, *changed])
        diagnostics += [diagnostic] if diagnostic else []
    if diagnostics:
        raise executor.FailedError(*diagnostics)
    act.run.done[f"{act.host.name} models"] = "all files verified by their hashes"


def _hash(act: executor.Acting, models: str, repositories: list[Weights]) -> dict[str, Any]:
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
        raise executor.FailedError(
            Diagnostic(act.host.name, f"hashing could not begin: {said}", hint="run again")
        )
    result = act.watch(job, "verify")
    if result.get("outcome") != "staged":
        found = str(result.get("cause") or "hashing failed")
        raise executor.FailedError(
            Diagnostic(act.host.name, found, hint=str(result.get("remedy") or "run again"))
        )
    return result
