"""Copies images and models between hosts: a sender on one for the duration, a job on the other."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet import interrupts
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.stage import (
    STAGED,
    ExportedImage,
    ImageCopy,
    ModelCopy,
    SenderPlace,
    StageRequest,
    StageResult,
)
from sparkfleet.contract.transfer import Place, Places, SentFile
from sparkfleet.desired_state import ImageRef, Weights
from sparkfleet.desired_state.derived_packages import REPOSITORY
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.fleet.staging import stage_job
from sparkfleet.fleet.staging.sender import Sender, SenderError
from sparkfleet.offline import oci
from sparkfleet.plan import copy_route
from sparkfleet.plan.artifacts import ArtifactSource


def copy(
    act: executor.RunContext,
    source_host: PyinfraHost,
    weights_list: Sequence[Weights],
    source: ArtifactSource,
) -> None:
    """Copy models from another host. Raise SenderError if it fails, FailedError if this one fails."""
    user, theirs = spark_plan.login_user(act.host), spark_plan.login_user(source_host)
    root = theirs.expand(spark_plan.declared(source_host).paths.models)
    shown = [
        SentFile(f"{snapshot(root, weights)}/{file.path}", file.size)
        for weights in weights_list
        for file in weights.files
    ]
    models = user.expand(spark_plan.declared(act.host).paths.models)
    with _sending(act, source_host, shown, source) as sender:
        orders = model_orders(weights_list, models, sender.place)
        _expect(act, stage_job.run(act, user, _request(sender, copies=orders)))


def _request(sender: Sender, **orders: Any) -> StageRequest:
    return StageRequest(stage_job.job_id(), transfer_key=sender.transfer_key, **orders)


def model_orders(weights_list: Sequence[Weights], models: str, place: SenderPlace) -> tuple[ModelCopy, ...]:
    """Return the copies of these models; the sender (``place``) serves their files in this order."""
    orders, number = [], 0
    for weights in weights_list:
        files = stage_job.model_files(weights, number)
        number += len(files)
        orders.append(ModelCopy(place.sender, place.listeners, weights.repo, weights.revision, models, files))
    return tuple(orders)


def copy_image(
    act: executor.RunContext, source_host: PyinfraHost, image: ImageRef, source: ArtifactSource
) -> None:
    """Copy an image from another host. Raise SenderError if it fails, FailedError if this one fails."""
    user, reference = spark_plan.login_user(act.host), image.pull_ref
    with (
        _exported(act, source_host, reference) as file,
        _sending(act, source_host, [SentFile(file.path, file.size)], source) as sender,
    ):
        derived = reference.startswith(f"{REPOSITORY}:")
        order = ImageCopy(
            sender.place.sender,
            sender.place.listeners,
            reference,
            file.size,
            file.sha256,
            file.id if derived else "",
            () if derived else _manifests(act, image),
        )
        _expect(act, stage_job.run(act, user, _request(sender, image_copies=(order,))))


def _manifests(act: executor.RunContext, image: ImageRef) -> tuple[str, ...]:
    """Return the manifests that give a copy its digest, from the offline mirror; none: its registry does."""
    mirror = spark_plan.declared(act.host).stage.mirror
    if not mirror:
        return ()
    folder = Path(mirror).expanduser()
    try:
        found = oci.chain(folder, image.digest)
    except LookupError:
        return ()
    return tuple(base64.b64encode(oci.blob_path(folder, part.digest).read_bytes()).decode() for part in found)


@contextlib.contextmanager
def _exported(act: executor.RunContext, source_host: PyinfraHost, reference: str) -> Iterator[ExportedImage]:
    """Export an image on another host; the archive exists while a host copies it."""
    key, exports = (source_host.name, reference), act.run.exports
    exports[key] = exports.get(key, 0) + 1
    try:
        sender_run = executor.RunContext(act.state, source_host)
        request = StageRequest(stage_job.job_id(), export=reference)
        result = stage_job.run(sender_run, spark_plan.login_user(source_host), request)
        if result.outcome != STAGED or result.exported is None:
            raise SenderError(*stage_job.failure(source_host.name, result).diagnostics)
        yield result.exported
    finally:
        exports[key] -= 1
        if not exports[key]:
            with contextlib.suppress(remote.ConnectionLostError, SparkfleetError):
                remote.program(source_host, "copy-forget", reference, timeout=60)


@contextlib.contextmanager
def _sending(
    act: executor.RunContext, source_host: PyinfraHost, shown: Sequence[SentFile], source: ArtifactSource
) -> Iterator[Sender]:
    """Run a sender of these files on another host, for this one."""
    route = copy_route.between(_places(source_host), _places(act.host))
    if source.near and not any(distance == copy_route.NEAR for distance, _ in route.listen):
        act.log(f"no fabric link to {source_host.name}: copying over the LAN")
    sender = Sender(source_host, route)
    with interrupts.changing(source_host.name, f"sends to {act.host.name}"):
        try:
            sender.begin(shown)
            yield sender
        finally:
            sender.end()


def _expect(act: executor.RunContext, result: StageResult) -> None:
    if result.outcome == STAGED:
        return
    failure = stage_job.failure(act.host.name, result)
    raise SenderError(*failure.diagnostics) if result.source_failed else failure


def snapshot(root: str, weights: Weights) -> str:
    """Return the directory of a model at its commit, in the hub's layout."""
    return f"{root}/hub/models--{weights.repo.replace('/', '--')}/snapshots/{weights.revision}"


def _places(host: PyinfraHost) -> tuple[Place, ...]:
    output = remote.program(host, "copy-places", timeout=60)
    if not output.ok:
        text = (output.err or output.out).strip()[-300:]
        raise SenderError(
            Diagnostic(
                host.name,
                f"its addresses could not be read: {text}",
                hint="run again",
                code="staging-failed",
            )
        )
    return remote.document(Places, host, output.out).places
