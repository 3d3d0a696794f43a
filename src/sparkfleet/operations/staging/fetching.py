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

from sparkfleet.errors import Problem, SparkfleetError
from sparkfleet.operations.edge.remote import ConnectionLostError
from sparkfleet.operations.run import acting
from sparkfleet.operations.run.fleet_run import Fetch
from sparkfleet.operations.run.looking import declared
from sparkfleet.operations.staging import copying, from_bundle, staging_job
from sparkfleet.operations.staging.sender import SenderError
from sparkfleet.plan.model import Entry, Source, Step
from sparkfleet.plan.staging import weights_key
from sparkfleet.spec.extras import REPOSITORY
from sparkfleet.spec.resolved import Host

SUBSTITUTES = 2
"""Sparks that download a thing after the one that should have sent it could not."""


def bring(act: acting.Acting, entries: Sequence[Entry], step: Step) -> None:
    """Bring what the entries lack in this step. Raise what kept one of the things from coming."""
    for key in dict.fromkeys(change.item for entry in entries for change in entry.steps(step)):
        fetch = _begun(act, act.host, key, step)
        fetch.over.wait()
        if fetch.problem is not None:
            raise fetch.problem


def _begun(act: acting.Acting, host: PyinfraHost, key: str, step: Step) -> Fetch:
    """Return the fetch of a thing to a Spark, begun unless it was."""
    run = act.run
    found = run.fetches.get((host.name, key))
    if found is None:
        found = run.fetches[host.name, key] = Fetch()
        gevent.spawn(_carry_out, acting.Acting(act.state, host), key, step, found)
    return found


def _carry_out(act: acting.Acting, key: str, step: Step, fetch: Fetch) -> None:
    try:
        with ctx_host.use(act.host):
            acting.refuse_stale(act)
            _fetch(act, key, step)
    except Exception as error:  # noqa: BLE001  (told by the host's own operation, whatever it is)
        fetch.problem = error
    finally:
        fetch.over.set()


def _fetch(act: acting.Acting, key: str, step: Step) -> None:
    source = act.run.sources.get((act.host.name, key)) or Source()
    failed: list[str] = []
    while source.host:
        holder = act.state.inventory.get_host(source.host)
        absent = _wait_for(act, holder, key, step)
        problem = absent or _copied(act, holder, key, step, source)
        if problem is None:
            return
        if absent is None and key.startswith(f"{REPOSITORY}:"):
            # Built here as well it would be another image: all ranks of a cluster run the same.
            raise acting.FailedError(replace(problem, where=f"{act.host.name}: {key}"))
        failed.append(source.host)
        source = _instead(act, key, failed, problem)
    wanted = _wanted(declared(act.host), key, step)
    if source.bundle and step is Step.IMAGE:
        send = from_bundle.send_derived if wanted.service.image.extras else from_bundle.send_image
        send(act, wanted.service.image)
    elif source.bundle:
        from_bundle.send(act, wanted.weights)
    else:
        staging_job.download(act, wanted)


def _wait_for(act: acting.Acting, holder: PyinfraHost, key: str, step: Step) -> Problem | None:
    """Wait until the other Spark has the thing; return why it will not have it."""
    if (holder.name, key) not in act.run.sources:
        return None  # it had it before the run
    begun = (holder.name, key) in act.run.fetches
    if not begun and (holder.name, Step.HOST) not in act.run.done_steps:
        # It failed before, or its turn comes after ours (pyinfra's --serial): its programs may not be there.
        return Problem(holder.name, "it is not ready to send in this run", remedy="run again")
    fetch = _begun(act, holder, key, step)
    if not fetch.over.is_set():
        act.tell("fetch", f"waits until {holder.name} has {key.partition('@')[0]}")
    fetch.over.wait()
    if isinstance(fetch.problem, staging_job.RefusedOutsideError):
        raise staging_job.RefusedOutsideError(*fetch.problem.problems)
    return _said(holder.name, fetch.problem)


def _said(name: str, error: Exception | None) -> Problem | None:
    if error is None:
        return None
    if isinstance(error, SparkfleetError):
        return error.problems[0]
    return Problem(name, str(error) or type(error).__name__, remedy="run again")


def _copied(act: acting.Acting, holder: PyinfraHost, key: str, step: Step, source: Source) -> Problem | None:
    """Copy the thing; return why the other Spark could not send it. Raise what no other Spark could mend."""
    try:
        if step is Step.IMAGE:
            image = _wanted(declared(act.host), key, step).service.image
            copying.copy_image(act, holder, image, source)
        else:
            copying.copy(act, holder, _wanted(declared(act.host), key, step).weights, source)
    except SenderError as error:
        return error.problems[0]
    except ConnectionLostError as error:
        return Problem(holder.name, f"connection lost: {error}", remedy="run again")
    return None


def _instead(act: acting.Acting, key: str, failed: Sequence[str], problem: Problem) -> Source:
    """Return where else the thing comes from: another Spark that took the download over, or from outside."""
    takers = act.run.substitutes.setdefault(key, [])
    act.say(f"{key.partition('@')[0]}: {problem.found.splitlines()[0]}")
    for name in takers:
        fetch = act.run.fetches[name, key]
        if name not in failed and not (fetch.over.is_set() and fetch.problem):
            return Source(name)
    spec = declared(act.host)
    bundle = bool(spec.stage.bundle)
    if (spec.prepare.offline and not bundle) or len(takers) >= SUBSTITUTES:
        raise acting.FailedError(
            Problem(
                act.host.name,
                f"{key.partition('@')[0]} cannot be had from {', '.join(failed)}: {problem.found}; "
                "what serves was not touched",
                remedy=problem.remedy,
            )
        )
    takers.append(act.host.name)
    act.say(f"{key.partition('@')[0]}: {'from the bundle' if bundle else 'downloads it itself'}")
    return Source(bundle=bundle)


def _wanted(spec: Host, key: str, step: Step) -> staging_job.Wanted:
    """Return what a key stands for on a Spark."""
    for service in spec.services:
        if step is Step.IMAGE and service.image.pull_ref == key:
            return staging_job.Wanted(service, ())
        for weights in service.repositories:
            if weights_key(weights) == key:
                return staging_job.Wanted(service, (weights,))
    raise KeyError(key)
