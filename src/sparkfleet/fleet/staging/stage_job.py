"""A staging job on a Spark: asked for, followed to its end, its failure told in the fleet's words."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from typing import Any

from sparkfleet import engines
from sparkfleet.config import secret
from sparkfleet.config.resolved import Host, ImageRef, Service, Weights
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan.artifacts import ArtifactSource
from sparkfleet.plan.model import Step
from sparkfleet.plan.staging import weights_key
from sparkfleet.probe.observed import User


class RefusedOutsideError(executor.FailedError):
    """The hub gave an answer that it would give every Spark: no other one need ask."""


@dataclass(frozen=True)
class Wanted:
    """What a job brings: the image of a service, and these of its models."""

    service: Service
    weights: tuple[Weights, ...]


def download(act: executor.Acting, wanted: Wanted) -> None:
    """Have the Spark fetch from outside. Raise FailedError if it cannot."""
    spec, user = spark_plan.declared(act.host), spark_plan.login_user(act.host)
    request = image_request(wanted.service.image, alone=not wanted.weights)
    # Asked before an image is pulled, too: a licence that is not accepted must not cost a pull first.
    asked = wanted.weights or _downloads(act, wanted.service)
    if asked:
        request["ask"] = [_weights_request(spec, wanted.service, one, user) for one in asked]
        token = secret.read(spec.hf_token)
        if token:
            request["token"] = token
    request["weights"] = [_weights_request(spec, wanted.service, one, user) for one in wanted.weights]
    result = run(act, user, request)
    if result.get("outcome") != "staged":
        raise failure(act.host.name, result)


def image_request(image: ImageRef, *, alone: bool) -> dict[str, Any]:
    """Return what brings an image, or (not ``alone``) what a download of models needs of one.

    Only the Spark that was shown to build a derived image builds it: two builds have two ids.
    """
    base, derived_packages = image.base.pull_ref, image.derived_packages
    if derived_packages is None:
        return {"images": [base]}
    if not alone:
        return {"images": [base], "unless": image.pull_ref}
    labels = {
        "io.sparkfleet.base": image.base.full_ref,
        "io.sparkfleet.packages": ", ".join(derived_packages.packages),
    }
    order = {"image": image.pull_ref, "base": base, "install": derived_packages.install, "labels": labels}
    return {
        "derived": [{**order, "wheels": [dataclasses.asdict(wheel) for wheel in derived_packages.wheels]}]
    }


def _downloads(act: executor.Acting, service: Service) -> tuple[Weights, ...]:
    """Return the models of a service that the Spark will download itself, later in this run."""
    if Step.WEIGHTS not in act.run.steps:
        return ()
    sources = act.run.sources
    keys = {key for (name, key), source in sources.items() if name == act.host.name and _is_hub(source)}
    return tuple(one for one in service.repositories if weights_key(one) in keys)


def _is_hub(source: ArtifactSource | None) -> bool:
    return source is not None and not source.host and not source.mirror


def run(act: executor.Acting, user: User, request: dict[str, Any]) -> dict[str, Any]:
    """Start a job and follow it; return its result. Raise FailedError when it does not begin."""
    job = f"stage-{uuid.uuid4().hex[:8]}"
    asked = {"id": job, "user": user_data(user), **request}
    answer = remote.program(act.host, "stage", data=asked, timeout=60)
    if not answer.ok:
        said = (answer.err or answer.out).strip()[-300:]
        raise executor.FailedError(
            Diagnostic(act.host.name, f"fetching could not begin: {said}", hint="run again")
        )
    return act.watch(job, "fetch")


def user_data(user: User) -> dict[str, Any]:
    """Return the login user as the programs on a Spark take it."""
    return {"name": user.name, "uid": user.uid, "gid": user.gid, "home": user.home}


def failure(where: str, result: dict[str, Any]) -> executor.FailedError:
    """Return what is told of a job that did not bring everything."""
    found = str(result.get("cause") or "fetching failed")
    if result.get("line"):
        found += f"\n    it said: {result['line']}"
    remedy = str(result.get("remedy") or "run again")
    diagnostic = Diagnostic(where, f"{found}; what serves was not touched", hint=remedy)
    return RefusedOutsideError(diagnostic) if result.get("refused") else executor.FailedError(diagnostic)


def _weights_request(spec: Host, service: Service, weights: Weights, user: User) -> dict[str, Any]:
    return {
        "image": service.image.base.pull_ref,
        "hub_client": engines.get(service.engine).hub_client,
        "repo": weights.repo,
        "revision": weights.revision,
        "models_dir": user.expand(spec.paths.models),
        "endpoint": spec.hf_endpoint,
        "files": [{"path": f.path, "size": f.size, "blob": f.blob} for f in weights.files],
    }
