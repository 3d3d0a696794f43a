"""What the image and the weights operation share: each missing thing is fetched once for the fleet.

Every thing on its way to a Spark is a ``Fetch`` of the run. Whoever needs it first begins it, also for
another Spark whose turn has not come; everyone waits for the same one. A fetch waits only for the same thing
on the Spark that sends it, so that no two can wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gevent
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.context import ctx_host

from sparkfleet.contract import hub_access
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import Host, ImageRef
from sparkfleet.desired_state.derived_packages import REPOSITORY
from sparkfleet.fleet.connection.remote import ConnectionLostError
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.run.fleet_run import Fetch
from sparkfleet.fleet.run.spark_plan import declared
from sparkfleet.fleet.staging import copies, from_mirror, stage_job
from sparkfleet.fleet.staging.sender import SenderError
from sparkfleet.plan.artifacts import ArtifactSource
from sparkfleet.plan.model import Operation, Step
from sparkfleet.plan.operations import FetchOperation
from sparkfleet.plan.staging import weights_key

SUBSTITUTES = 2
"""Hosts that download an artifact after its sender failed."""


def fetch_all(act: executor.RunContext, operations: Sequence[Operation]) -> None:
    """Fetch the artifacts of these operations. Raise the error of the first that cannot be fetched."""
    for operation in operations:
        assert isinstance(operation, FetchOperation)  # noqa: S101  (the steps IMAGE and WEIGHTS have no others)
        fetch = _begun(act, act.host, operation.key, operation.step)
        fetch.over.wait()
        if fetch.error is not None:
            raise fetch.error


def _begun(act: executor.RunContext, host: PyinfraHost, key: str, step: Step) -> Fetch:
    """Return the fetch of an artifact to a host; start it if necessary."""
    run = act.run
    found = run.fetches.get((host.name, key))
    if found is None:
        found = run.fetches[host.name, key] = Fetch()
        gevent.spawn(_carry_out, executor.RunContext(act.state, host), key, step, found)
    return found


def _carry_out(act: executor.RunContext, key: str, step: Step, fetch: Fetch) -> None:
    try:
        with ctx_host.use(act.host):
            executor.refuse_stale(act)
            _fetch(act, key, step)
    except Exception as error:  # noqa: BLE001  (the host's own operation reports it)
        fetch.error = error
    finally:
        fetch.over.set()


def _fetch(act: executor.RunContext, key: str, step: Step) -> None:
    source = act.run.sources.get((act.host.name, key)) or ArtifactSource()
    failed: list[str] = []
    while source.host:
        sender = act.state.inventory.get_host(source.host)
        absent = _wait_for(act, sender, key, step)
        diagnostic = absent or _copied(act, sender, key, step, source)
        if diagnostic is None:
            return
        if absent is None and key.startswith(f"{REPOSITORY}:"):
            # Built here as well it would be another image: all ranks of a cluster run the same.
            raise executor.FailedError(replace(diagnostic, location=f"{act.host.name}: {key}"))
        failed.append(source.host)
        source = _instead(act, key, failed, diagnostic)
    download = _download(declared(act.host), key, step)
    if source.mirror and step is Step.IMAGE:
        image = _image(declared(act.host), key)
        send = from_mirror.send_derived if image.derived_packages else from_mirror.send_image
        send(act, image)
    elif source.mirror:
        from_mirror.send(act, download.weights)
    else:
        stage_job.download(act, download)


def _wait_for(act: executor.RunContext, sender: PyinfraHost, key: str, step: Step) -> Diagnostic | None:
    """Wait until the other host has the artifact; return why it does not get it."""
    if (sender.name, key) not in act.run.sources:
        return None  # it had it before the run
    begun = (sender.name, key) in act.run.fetches
    if not begun and (sender.name, Step.HOST) not in act.run.done_steps:
        # It failed before, or its turn comes after ours (pyinfra's --serial): its programs may not be there.
        return Diagnostic(
            sender.name,
            "it cannot send in this run",
            hint="run again",
            code="artifact-source-not-ready",
        )
    fetch = _begun(act, sender, key, step)
    if not fetch.over.is_set():
        act.progress("fetch", f"waiting until {sender.name} has {key.partition('@')[0]}")
    fetch.over.wait()
    diagnostic = _transfer_diagnostic(sender.name, fetch.error)
    if diagnostic and diagnostic.code == hub_access.REFUSED:
        raise executor.FailedError(diagnostic)  # no other host needs to try
    return diagnostic


def _transfer_diagnostic(name: str, error: Exception | None) -> Diagnostic | None:
    if error is None:
        return None
    if isinstance(error, SparkfleetError):
        return error.diagnostics[0]
    return Diagnostic(name, str(error) or type(error).__name__, hint="run again", code="staging-failed")


def _copied(
    act: executor.RunContext, sender: PyinfraHost, key: str, step: Step, source: ArtifactSource
) -> Diagnostic | None:
    """Copy the artifact; return why the other host could not send it. Raise a failure of this host."""
    try:
        if step is Step.IMAGE:
            copies.copy_image(act, sender, _image(declared(act.host), key), source)
        else:
            copies.copy(act, sender, _download(declared(act.host), key, step).weights, source)
    except SenderError as error:
        return error.diagnostics[0]
    except ConnectionLostError as error:
        return Diagnostic(sender.name, f"connection lost: {error}", hint="run again", code="connection-lost")
    return None


def _instead(
    act: executor.RunContext, key: str, failed: Sequence[str], diagnostic: Diagnostic
) -> ArtifactSource:
    """Return another source: a host that has taken over the download, or the mirror, hub or registry."""
    takers = act.run.substitutes.setdefault(key, [])
    act.log(f"{key.partition('@')[0]}: {diagnostic.message.splitlines()[0]}")
    for name in takers:
        fetch = act.run.fetches[name, key]
        if name not in failed and not (fetch.over.is_set() and fetch.error):
            return ArtifactSource(name)
    spec = declared(act.host)
    mirror = bool(spec.stage.mirror)
    if (spec.prepare.offline and not mirror) or len(takers) >= SUBSTITUTES:
        raise executor.FailedError(
            Diagnostic(
                act.host.name,
                f"{key.partition('@')[0]} could not be fetched from {', '.join(failed)}: "
                f"{diagnostic.message}; running engines were not touched",
                hint=diagnostic.hint,
                code="staging-failed",
            )
        )
    takers.append(act.host.name)
    act.log(f"{key.partition('@')[0]}: {'from the offline mirror' if mirror else 'downloads it directly'}")
    return ArtifactSource(mirror=mirror)


def _image(spec: Host, key: str) -> ImageRef:
    """Return the image of a key on a host."""
    images = (service.image for service in spec.services)
    return next(image for image in images if image and image.pull_ref == key)


def _download(spec: Host, key: str, step: Step) -> stage_job.Download:
    """Return the image or model of a key on a host."""
    for service in spec.services:
        if step is Step.IMAGE and key in service.image_names[:1]:
            return stage_job.Download(service, ())
        for weights in service.repositories:
            if weights_key(weights) == key:
                return stage_job.Download(service, (weights,))
    raise KeyError(key)
