"""Operation: verify the model files of every declared service against the hashes in the lock file."""

from __future__ import annotations

from collections.abc import Generator
from uuid import uuid4

from pyinfra.api.command import FunctionCommand
from pyinfra.context import host, state

from sparkfleet.contract.stage import STAGED, ModelFiles, StageRequest, StageResult, VerifyRequest
from sparkfleet.desired_state import Weights
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.fleet.staging import stage_job
from sparkfleet.plan import verification
from sparkfleet.plan.model import Operation, Step
from sparkfleet.plan.operations import VerifyWeights


@executor.own_operation
def verify() -> Generator[FunctionCommand, None, None]:
    """Hash files that were not hashed in their present state; fail if one differs from the lock file."""
    yield from executor.commands(state, host, Step.VERIFY, _verify)


def _verify(act: executor.RunContext, operations: tuple[Operation, ...]) -> None:
    spec = spark_plan.declared(act.host)
    models = spark_plan.login_user(act.host).expand(spec.paths.models)
    verified = [one for one in operations if isinstance(one, VerifyWeights)]
    result = _hash(act, models, [one.weights for one in verified])
    diagnostics = []
    for one in verified:
        changed = result.changed.get(f"{one.repository}@{one.revision}", ())
        diagnostic = verification.wrong_files_diagnostic(act.host.name, one.weights, [*one.wrong, *changed])
        diagnostics += [diagnostic] if diagnostic else []
    if diagnostics:
        raise executor.FailedError(*diagnostics)
    act.run.done[act.host.name, "models"] = "all files verified by their hashes"


def _hash(act: executor.RunContext, models: str, repositories: list[Weights]) -> StageResult:
    requested = tuple(
        ModelFiles(weights.repo, weights.revision, stage_job.model_files(weights)) for weights in repositories
    )
    verify = VerifyRequest(models, requested, bool(act.host.data.get(verification.AGAIN)))
    request = StageRequest(f"stage-verify-{uuid4().hex[:8]}", verify=verify)
    remote.start_job(act.host, "stage", request, "hashing could not start")
    result = act.watch(request.id, "verify", StageResult)
    if result.outcome != STAGED:
        raise executor.FailedError(stage_job.located(act.host.name, result, "hashing failed", "run again"))
    return result
