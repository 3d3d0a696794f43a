"""Fetches images and weights to this Spark while engines serve, in a job that outlives the connection.

A job is a directory ``jobs/<id>/`` with request, journal and result, without secrets. The hub's token is in
``/run/sparkfleet/<id>.token`` (memory, mode 0600, owned by the login user) while the job runs, and mounted
read-only into the instance that downloads; the key of a copy is in ``<id>.key``, readable by root alone.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sparkfleet.contract import hub_access
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import RESULT, Event
from sparkfleet.contract.stage import (
    FAILED,
    LOST,
    ROOT,
    STAGED,
    ModelDownload,
    StageRequest,
    StageResult,
)
from sparkfleet.onhost.artifacts.copy.job import copy
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record, rates
from sparkfleet.onhost.artifacts.fetch.fetch import fetch
from sparkfleet.onhost.artifacts.fetch.hub_cache import repository, wrong_files
from sparkfleet.onhost.artifacts.fetch.pull import pull
from sparkfleet.onhost.artifacts.fetch.verify import verify
from sparkfleet.onhost.artifacts.image import copy_image, derive, mirrored_image
from sparkfleet.onhost.machine import files, jobs
from sparkfleet.onhost.machine.system import PROGRAM, Paths, System
from sparkfleet.onhost.prune.prune import prune
from sparkfleet.onhost.state.journal import Journal, follow_events

FINISHED_JOBS = 10
"""Finished jobs whose directories are retained."""


def jobs_directory(state: Path) -> Path:
    """Return the directory of the jobs."""
    return state / "jobs"


def begin(request: StageRequest, paths: Paths) -> str:
    """Write the request and start the job in a unit of its own. Return its id.

    A repeated call with the same id (after a lost connection) starts nothing.
    """
    job = request.id
    folder = jobs_directory(paths.state) / job
    if (folder / "result.json").exists() or jobs.is_going_on(job):
        return job
    files.write_document(folder / "request.json", replace(request, hub_token="", transfer_key=""))
    jobs.sweep_secrets()
    if request.hub_token:
        jobs.keep_secret(job, request.hub_token, request.user.uid if request.user else 0)
    if request.transfer_key:
        jobs.keep_secret(job, request.transfer_key, 0, jobs.TRANSFER_KEY)
    _remove_finished(jobs_directory(paths.state))
    jobs.start(job, [PROGRAM, "stage-run", job])
    return job


def _remove_finished(folder: Path) -> None:
    done = [path.parent for path in folder.glob("*/result.json")]
    for path in sorted(done, key=lambda p: p.stat().st_mtime)[:-FINISHED_JOBS]:
        shutil.rmtree(path, ignore_errors=True)


def run(job: str, paths: Paths, drop_caches: Callable[[], str] = lambda: "") -> int:
    """Run the job; its result is in the journal. Return an exit code.

    ``drop_caches`` is called after a fetch, which fills the page cache and thus takes the memory that an
    engine needs at its start. It returns what it did.
    """
    folder = jobs_directory(paths.state) / job
    journal = Journal(folder, time.time)
    token, key = jobs.secret(job), jobs.secret(job, jobs.TRANSFER_KEY)
    try:
        request = request_of(folder)
        with _exclusive(paths.state, journal):
            copy_image.sweep(paths.state)
            check_access(request.access_checks, token)
            fetched = _fetch(derive.prefer_derived(request), token, key, journal, paths.state)
            if fetched:
                journal.log("note", drop_caches(), phase="valve")
            result = _finish(request, journal, paths.state)
        journal.finish(result)
    except StageError as error:
        journal.finish(error.result)
        return 1
    except ContractError as error:
        journal.finish(StageResult(FAILED, diagnostic=error.diagnostic))
        return 1
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        wrong = Diagnostic(f"job {job}", cause, hint="run again", code="staging-failed")
        journal.finish(StageResult(FAILED, diagnostic=wrong))
        return 1
    finally:
        jobs.forget_secrets(job)
    return 0


def _fetch(request: StageRequest, token: Path, key: Path, journal: Journal, state: Path) -> bool:
    """Fetch all artifacts of a request; return whether there were any. Raise StageError, ContractError."""
    user = request.user or ROOT
    copied = (*request.copies, *request.image_copies, *request.mirrored_images)
    from_sender = copied or any(order.wheel_sender for order in request.derived)
    transfer_key = key.read_text(encoding="utf-8") if from_sender else ""
    is_fetch = bool(copied or request.images or request.weights or request.derived)
    if is_fetch:
        fetch_record.read(state)  # nothing is fetched that could not be recorded
    for reference in request.images:
        with fetch_record.image(state, reference):
            began = time.monotonic()
            rates.note(state, rates.PULL, pull(reference, user, journal), time.monotonic() - began)
    for model in request.weights:
        fetch(model, user, token if token.exists() else None, journal, state)
    for model_copy in request.copies:
        copy(model_copy, user, transfer_key, journal, state)
    for image_copy in request.image_copies:
        copy_image.copy(image_copy, user, transfer_key, journal, state)
    for mirrored in request.mirrored_images:
        mirrored_image.fetch(mirrored, transfer_key, journal, state)
    for order in request.derived:
        derive.build(order, user, transfer_key, journal, state)
    return is_fetch


def _finish(request: StageRequest, journal: Journal, state: Path) -> StageResult:
    """Export, prune or verify; return the result of the job."""
    if request.verify:
        return verify(request.verify, state, journal)
    if request.prune:
        return prune(request.prune, state, journal)
    exported = None
    if request.export:
        exported = copy_image.export(request.export, request.user or ROOT, state, journal)
    return StageResult(STAGED, text="complete", exported=exported)


def request_of(folder: Path) -> StageRequest:
    """Return the request of a job. Raise StageError for one that cannot be read."""
    path = folder / "request.json"
    try:
        request = files.read_document(StageRequest, path)
    except ContractError as error:
        wrong = error.diagnostic
        raise StageError(str(path), wrong.message, wrong.hint or "run again", code=wrong.code) from None
    if request is None:
        raise StageError(str(path), "does not exist", "run again")
    return request


def check_access(models: Sequence[ModelDownload], token: Path) -> None:
    """Raise StageError for a model that the hub does not give to this token, before any download."""
    secret = token.read_text(encoding="utf-8") if token.exists() else ""
    for model in models:
        missing = wrong_files(repository(model.models_dir, model.repo), model.revision, model.files)
        if missing:
            access = hub_access.ask(model.endpoint, model.repo, model.revision, missing[0].path, secret)
            refusal = hub_access.refusal(access, model.repo, model.endpoint)
            if refusal:
                raise StageError(refusal.location, refusal.message, refusal.hint, code=refusal.code)


@contextmanager
def _exclusive(state: Path, journal: Journal) -> Iterator[None]:
    with (state / "stage.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            journal.log("waiting", "another fetch is running")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def follow(system: System, job: str, since: int, wait_s: float) -> list[Event]:
    """Return the events from ``since`` on, the result last; wait at most ``wait_s`` seconds for new ones."""

    def stopped() -> list[Event]:
        if jobs.is_going_on(job):
            return []
        message, hint = "ended without a result (reboot?)", "run again; completed data is kept"
        wrong = Diagnostic(f"job {job}", message, hint=hint, code="job-lost")
        lost = StageResult(LOST, diagnostic=wrong)
        return [Event(since, RESULT, result=lost.to_json())]

    folder = jobs_directory(system.paths.state) / job
    return follow_events(system, folder, StageResult, since, wait_s, stopped=stopped)
