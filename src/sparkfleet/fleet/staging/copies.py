"""Images and models from one Spark to another: a sender there for the time of the copy, a job here."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.config.derived_packages import REPOSITORY
from sparkfleet.config.resolved import ImageRef, Weights
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.fleet.staging import stage_job
from sparkfleet.fleet.staging.sender import Sender, SenderError
from sparkfleet.offline import oci
from sparkfleet.plan import copy_route
from sparkfleet.plan.artifacts import ArtifactSource


def copy(
    act: executor.Acting, holder: PyinfraHost, wanted: Sequence[Weights], source: ArtifactSource
) -> None:
    """Copy models from another Spark. Raise SenderError for its trouble, FailedError for this one's."""
    user, theirs = spark_plan.login_user(act.host), spark_plan.login_user(holder)
    root = theirs.expand(spark_plan.declared(holder).paths.models)
    shown = [
        {"path": f"{snapshot(root, weights)}/{file.path}", "size": file.size}
        for weights in wanted
        for file in weights.files
    ]
    models = user.expand(spark_plan.declared(act.host).paths.models)
    with _sending(act, holder, shown, source) as sender:
        orders = model_orders(wanted, models, sender.place)
        _expect(act, stage_job.run(act, user, {"token": sender.token, "copies": orders}))


def model_orders(wanted: Sequence[Weights], models: str, place: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a Spark is told to copy when a sender (``place``) has these models' files in order."""
    orders, number = [], 0
    for weights in wanted:
        files = [
            {"path": file.path, "size": file.size, "blob": file.blob, "number": number + at}
            for at, file in enumerate(weights.files)
        ]
        number += len(files)
        named = {"repo": weights.repo, "revision": weights.revision, "models_dir": models}
        orders.append({**named, **place, "files": files})
    return orders


def copy_image(act: executor.Acting, holder: PyinfraHost, image: ImageRef, source: ArtifactSource) -> None:
    """Copy an image from another Spark. Raise SenderError for its trouble, FailedError for this one's."""
    user, reference = spark_plan.login_user(act.host), image.pull_ref
    with _exported(act, holder, reference) as file:
        shown = [{"path": file["path"], "size": file["size"]}]
        with _sending(act, holder, shown, source) as sender:
            derived = reference.startswith(f"{REPOSITORY}:")
            order = {
                "image": reference,
                "size": file["size"],
                "sha256": file["sha256"],
                **({"id": file["id"]} if derived else {"manifests": _manifests(act, image)}),
                **sender.place,
            }
            _expect(act, stage_job.run(act, user, {"token": sender.token, "image_copies": [order]}))


def _manifests(act: executor.Acting, image: ImageRef) -> list[str]:
    """Return what gives a copy its digest, from the offline mirror; nothing: the image's registry does."""
    mirror = spark_plan.declared(act.host).stage.mirror
    if not mirror:
        return []
    folder = Path(mirror).expanduser()
    try:
        found = oci.chain(folder, image.digest)
    except LookupError:
        return []
    return [base64.b64encode(oci.place(folder, part.digest).read_bytes()).decode() for part in found]


@contextlib.contextmanager
def _exported(act: executor.Acting, holder: PyinfraHost, reference: str) -> Iterator[dict[str, Any]]:
    """Have an image in a file on another Spark, as long as somebody copies it from there."""
    key, exports = (holder.name, reference), act.run.exports
    exports[key] = exports.get(key, 0) + 1
    try:
        there = executor.Acting(act.state, holder)
        result = stage_job.run(there, spark_plan.login_user(holder), {"export": reference})
        if result.get("outcome") != "staged":
            raise SenderError(*stage_job.failure(holder.name, result).diagnostics)
        yield result["exported"]
    finally:
        exports[key] -= 1
        if not exports[key]:
            with contextlib.suppress(remote.ConnectionLostError, SparkfleetError):
                remote.program(holder, "copy-forget", reference, timeout=60)


@contextlib.contextmanager
def _sending(
    act: executor.Acting, holder: PyinfraHost, shown: Sequence[dict[str, Any]], source: ArtifactSource
) -> Iterator[Sender]:
    """Have a sender of these files on another Spark, for this one."""
    route = copy_route.between(_places(holder), _places(act.host))
    if source.near and not any(distance == copy_route.NEAR for distance, _ in route.listen):
        act.say(f"no link of the fabric leads to {holder.name} now: over the LAN")
    sender = Sender(holder, route)
    try:
        sender.begin(shown)
        yield sender
    finally:
        sender.end()


def _expect(act: executor.Acting, result: dict[str, Any]) -> None:
    if result.get("outcome") == "staged":
        return
    failure = stage_job.failure(act.host.name, result)
    raise SenderError(*failure.diagnostics) if result.get("elsewhere") else failure


def snapshot(root: str, weights: Weights) -> str:
    """Return the directory of a model at its commit, in the hub's layout."""
    return f"{root}/hub/models--{weights.repo.replace('/', '--')}/snapshots/{weights.revision}"


def _places(host: PyinfraHost) -> list[dict[str, str]]:
    answer = remote.program(host, "copy-places", timeout=60)
    if not answer.ok:
        said = (answer.err or answer.out).strip()[-300:]
        raise SenderError(Diagnostic(host.name, f"its addresses could not be read: {said}", hint="run again"))
    return list(remote.last_document(answer.out)["places"])
