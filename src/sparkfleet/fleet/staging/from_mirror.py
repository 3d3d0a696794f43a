"""Models and images from the offline mirror on this machine to a Spark: one copy, over the SSH connection.

The same sender and receiver as between two Sparks, so that it is hashed on arrival and goes on after a cut.
The sender is a process of its own: reading files must not hold up the other Sparks of the run.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.stage import STAGED, MirroredImage, SenderPlace, StageRequest
from sparkfleet.contract.transfer import LocalSendRequest, SentFile
from sparkfleet.desired_state import ImageRef, Weights
from sparkfleet.fleet.connection import tunnel
from sparkfleet.fleet.run import executor, mirror_gaps, spark_plan
from sparkfleet.fleet.staging import copies, stage_job
from sparkfleet.offline import models, oci, wheels

LAN = 1
"""Distance of the listener: not the fabric."""


def send(act: executor.RunContext, weights_list: Sequence[Weights]) -> None:
    """Send models. Raise FailedError if the offline mirror lacks one, or if the transfer fails."""
    mirror = mirror_of(act)
    _refuse(models.lack(act.host.name, mirror, weights) for weights in weights_list)
    user = spark_plan.login_user(act.host)
    models_dir = user.expand(spark_plan.declared(act.host).paths.models)
    shown = [
        SentFile(str(models.snapshot(mirror, weights) / file.path), file.size)
        for weights in weights_list
        for file in weights.files
    ]
    with _sending(act, shown) as (key, place):
        orders = copies.model_orders(weights_list, models_dir, place)
        _run(act, StageRequest(stage_job.job_id(), copies=orders, transfer_key=key))


def send_image(act: executor.RunContext, image: ImageRef) -> None:
    """Send an image. Raise FailedError if the offline mirror lacks it, or if the transfer fails."""
    mirror = mirror_of(act)
    _refuse([oci.lack(act.host.name, mirror, image)])
    parts = oci.parts(mirror, image.digest)
    shown = [SentFile(str(oci.blob_path(mirror, part.digest)), part.size) for part in parts]
    with _sending(act, shown) as (key, place):
        order = MirroredImage(place.sender, place.listeners, image.pull_ref, parts)
        _run(act, StageRequest(stage_job.job_id(), mirrored_images=(order,), transfer_key=key))


def send_derived(act: executor.RunContext, image: ImageRef) -> None:
    """Send base and wheels of a derived image, and build it on the host. Raise FailedError."""
    mirror = mirror_of(act)
    _refuse([mirror_gaps.derived_image_gap(act.host.name, mirror, image)])
    parts = oci.parts(mirror, image.digest)
    (order,) = stage_job.image_request(image, alone=True).derived
    packages = (
        [wheels.wheel_path(mirror, wheel) for wheel in image.derived_packages.wheels]
        if image.derived_packages
        else []
    )
    files = [*((oci.blob_path(mirror, part.digest), part.size) for part in parts),
             *((path, path.stat().st_size) for path in packages)]  # fmt: skip
    sent = tuple(
        replace(one, number=len(parts) + at, size=packages[at].stat().st_size)
        for at, one in enumerate(order.wheels)
    )
    with _sending(act, [SentFile(str(path), size) for path, size in files]) as (key, place):
        base = MirroredImage(place.sender, place.listeners, image.base.pull_ref, parts)
        build = replace(order, wheels=sent, wheel_sender=place)
        _run(
            act,
            StageRequest(stage_job.job_id(), mirrored_images=(base,), derived=(build,), transfer_key=key),
        )


def mirror_of(act: executor.RunContext) -> Path:
    """Return the offline mirror that a Spark's fleet declares."""
    return Path(spark_plan.declared(act.host).stage.mirror).expanduser()


def _refuse(lacks: Iterable[Diagnostic | None]) -> None:
    diagnostics = [diagnostic for diagnostic in lacks if diagnostic]
    if diagnostics:
        raise executor.FailedError(*diagnostics)


def _run(act: executor.RunContext, request: StageRequest) -> None:
    result = stage_job.run(act, spark_plan.login_user(act.host), request)
    if result.outcome != STAGED:
        raise stage_job.failure(act.host.name, result)


@contextmanager
def _sending(act: executor.RunContext, shown: Sequence[SentFile]) -> Iterator[tuple[str, SenderPlace]]:
    """Run a sender that the host reaches; yield its key and its place."""
    key = secrets.token_hex(32)
    with _sender(shown, key) as port, tunnel.forward_port(act.host, port) as forwarded:
        yield key, SenderPlace("the offline mirror", ((LAN, tunnel.LOOPBACK, forwarded),))


@contextmanager
def _sender(shown: Sequence[SentFile], key: str) -> Iterator[int]:
    """Run a sender on this machine's loopback; yield its port."""
    request = LocalSendRequest(tuple(shown), key)
    child = subprocess.Popen(
        [sys.executable, "-m", "sparkfleet.fleet.staging.mirror_sender"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018  (both are pipes)
    try:
        with child.stdin as stream:
            stream.write(codec.dumps(request))
        yield int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()
