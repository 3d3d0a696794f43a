"""A staging job on a host: started, followed to its end, its failure turned into a diagnostic."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from sparkfleet import engines
from sparkfleet.config import secret
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.stage import (
    STAGED,
    ImageBuild,
    LoginUser,
    ModelDownload,
    ModelFile,
    StageRequest,
    StageResult,
    WheelFile,
)
from sparkfleet.desired_state import Host, ImageRef, Service, Weights
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan.artifacts import ArtifactSource
from sparkfleet.plan.model import Step
from sparkfleet.plan.staging import weights_key
from sparkfleet.probe.observation import User


@dataclass(frozen=True)
class Download:
    """What a job fetches: the image of a service, if it has one, and these of its models."""

    service: Service
    weights: tuple[Weights, ...]


def download(act: executor.RunContext, requested: Download) -> None:
    """Fetch from registry and hub. Raise FailedError if that fails."""
    spec, user = spark_plan.declared(act.host), spark_plan.login_user(act.host)
    request = image_request(requested.service.image, alone=not requested.weights)
    # Checked before an image is pulled, too: a licence that is not accepted must not cost a pull first.
    checked = requested.weights or _downloads(act, requested.service)
    if checked:
        request = replace(
            request,
            access_checks=tuple(_weights_request(spec, requested.service, one, user) for one in checked),
            hub_token=secret.read(spec.hf_token) or "",
        )
    weights = tuple(_weights_request(spec, requested.service, one, user) for one in requested.weights)
    result = run(act, user, replace(request, weights=weights))
    if result.outcome != STAGED:
        raise failure(act.host.name, result)


def job_id() -> str:
    """Return the id of a new job."""
    return f"stage-{uuid.uuid4().hex[:8]}"


def image_request(image: ImageRef | None, *, alone: bool) -> StageRequest:
    """Return what fetches an image, or (not ``alone``) what a download of models needs of one.

    Only the Spark that was shown to build a derived image builds it: two builds have two ids.
    """
    if image is None:
        return StageRequest(job_id())
    base, packages = image.base.pull_ref, image.derived_packages
    if packages is None:
        return StageRequest(job_id(), images=(base,))
    if not alone:
        return StageRequest(job_id(), images=(base,), skip_if_image=image.pull_ref)
    labels = {
        "io.sparkfleet.base": image.base.full_ref,
        "io.sparkfleet.packages": ", ".join(packages.packages),
    }
    wheels = tuple(WheelFile(one.name, one.url, one.sha256, one.size) for one in packages.wheels)
    build = ImageBuild(image.pull_ref, base, tuple(packages.install), wheels, labels)
    return StageRequest(job_id(), derived=(build,))


def _downloads(act: executor.RunContext, service: Service) -> tuple[Weights, ...]:
    """Return the models of a service that the host downloads later in this run."""
    if Step.WEIGHTS not in act.run.steps:
        return ()
    sources = act.run.sources
    keys = {key for (name, key), source in sources.items() if name == act.host.name and _is_hub(source)}
    return tuple(one for one in service.repositories if weights_key(one) in keys)


def _is_hub(source: ArtifactSource | None) -> bool:
    return source is not None and not source.host and not source.mirror


def run(act: executor.RunContext, user: User, request: StageRequest) -> StageResult:
    """Start a job and follow it; return its result. Raise SparkfleetError when it does not start."""
    request = replace(request, user=login_user(user))
    remote.start_job(act.host, "stage", request, "fetching could not start", "staging-failed")
    return act.watch(request.id, "fetch", StageResult)


def login_user(user: User) -> LoginUser:
    """Return the login user as the contract has it."""
    return LoginUser(user.name, user.uid, user.gid, user.home)


def failure(where: str, result: StageResult) -> executor.FailedError:
    """Return the error of a job that did not fetch everything."""
    wrong = located(where, result, "fetching failed", "run again")
    log = f"\n    log: {result.line}" if result.line else ""
    return executor.FailedError(
        replace(wrong, message=f"{wrong.message}{log}; running engines were not touched")
    )


def located(where: str, result: StageResult, found: str, hint: str) -> Diagnostic:
    """Return why a job on a host failed; ``found`` and ``hint`` where the host does not say it."""
    wrong = result.diagnostic or Diagnostic("", found, code="staging-failed")
    location = f"{where}: {wrong.location}" if wrong.location else where
    return replace(wrong, location=location, message=wrong.message or found, hint=wrong.hint or hint)


def model_files(weights: Weights, first: int = 0) -> tuple[ModelFile, ...]:
    """Return the files of a model; ``first``: the number of its first one at a sender."""
    return tuple(ModelFile(f.path, f.size, f.blob, first + at) for at, f in enumerate(weights.files))


def _weights_request(spec: Host, service: Service, weights: Weights, user: User) -> ModelDownload:
    return ModelDownload(
        weights.repo,
        weights.revision,
        user.expand(spec.paths.models),
        model_files(weights),
        service.image.base.pull_ref if service.image else "",
        spec.hf_endpoint,
        engines.get(service.engine).hub_client if service.image else "",
    )
