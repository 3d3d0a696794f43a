"""What the image and the weights operation share: a staging job on the Spark, followed to its end."""

from __future__ import annotations

import uuid
from typing import Any

from sparkfleet.errors import Problem
from sparkfleet.operations import acting, fleet_run, remote
from sparkfleet.operations.host import login_user
from sparkfleet.operations.service import watch
from sparkfleet.plan.model import Entry, Step
from sparkfleet.spec import secret
from sparkfleet.spec.resolved import Host, Service, Weights


def stage(act: acting.Acting, entries: tuple[Entry, ...], *, weights: bool) -> None:
    """Have the Spark fetch the images, and if asked the weights, of the entries' services. Raise FailedError
    if it cannot.
    """
    spec = fleet_run.declared(act.host)
    services = [entry.service for entry in entries if entry.service is not None]
    user = login_user(act.host)
    job = f"stage-{uuid.uuid4().hex[:8]}"
    request: dict[str, Any] = {
        "id": job,
        "user": {"name": user.name, "uid": user.uid, "gid": user.gid, "home": user.home},
        "images": list(dict.fromkeys(service.image.pull_ref for service in services)),
    }
    models = user.expand(spec.paths.models)
    needed = [
        _weights_request(spec, entry.service, weights, models)
        for entry in entries
        if entry.service is not None and entry.steps(Step.WEIGHTS)
        for weights in entry.service.repositories
    ]
    if needed:
        # Asked before the image is pulled, too: a licence that is not accepted must not cost a pull first.
        request["ask"] = needed
        token = secret.read(spec.hf_token)
        if token:
            request["token"] = token
    if weights:
        request["weights"] = needed
    answer = remote.program(act.host, "stage", data=request, timeout=60)
    if not answer.ok:
        raise acting.FailedError(
            Problem(
                act.host.name,
                f"fetching could not begin: {(answer.err or answer.out).strip()[-300:]}",
                remedy="run again",
            )
        )
    result = watch(act, job, "fetch")
    if result.get("outcome") != "staged":
        found = str(result.get("cause") or "fetching failed")
        if result.get("line"):
            found += f"\n    it said: {result['line']}"
        raise acting.FailedError(
            Problem(
                act.host.name,
                f"{found}; what serves was not touched",
                remedy=str(result.get("remedy") or "run again"),
            )
        )


def _weights_request(spec: Host, service: Service, weights: Weights, models_dir: str) -> dict[str, Any]:
    return {
        "image": service.image.pull_ref,
        "repo": weights.repo,
        "revision": weights.revision,
        "models_dir": models_dir,
        "endpoint": spec.hf_endpoint,
        "files": [{"path": f.path, "size": f.size, "blob": f.blob} for f in weights.files],
    }
