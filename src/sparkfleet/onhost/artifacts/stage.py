"""Fetch images and weights to this Spark while it serves on: a job of its own, which outlives the operator.

A job is a directory ``jobs/<id>/`` with the journal. Secrets are never in it. The hub's token lies in
``/run/sparkfleet/<id>.token`` (memory, 0600, the login user's) while the job runs, mounted read-only into the
container that downloads; the key of a copy lies in ``<id>.key``, root's alone.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparkfleet.contract import hub_access
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.rollout import LOST, RESULT, Event
from sparkfleet.contract.stage import StageRequest, StageResult
from sparkfleet.onhost.artifacts.copy.job import copy
from sparkfleet.onhost.artifacts.fetch import rates, staged, verify
from sparkfleet.onhost.artifacts.fetch.fetch import fetch
from sparkfleet.onhost.artifacts.fetch.hub_cache import repository, wrong_files
from sparkfleet.onhost.artifacts.fetch.pull import StageError, pull
from sparkfleet.onhost.artifacts.image import carried_image, copy_image, derive
from sparkfleet.onhost.machine import files, jobs
from sparkfleet.onhost.machine.system import PROGRAM, Paths
from sparkfleet.onhost.prune import prune
from sparkfleet.onhost.state.journal import Journal, read_events

KEPT_JOBS = 10
BROUGHT = ("images", "derived", "weights", "copies", "image_copies", "carried_images")
"""What of a request fills the disk, and so the page cache."""


def jobs_directory(state: Path) -> Path:
    """Return where the jobs' diaries lie."""
    return state / "jobs"


def begin(request: StageRequest, paths: Paths) -> str:
    """Write the request and start the job detached from whoever asked. Return its id.

    Asked twice (the operator's connection broke in between) it is started once.
    """
    job = request.id
    folder = jobs_directory(paths.state) / job
    if (folder / "result.json").exists() or jobs.is_going_on(job):
        return job
    files.write_json(folder / "request.json", replace(request, hub_token="", transfer_key="").to_json())
    jobs.sweep_secrets()
    if request.hub_token:
        jobs.keep_secret(job, request.hub_token, request.user.uid if request.user else 0)
    if request.transfer_key:
        jobs.keep_secret(job, request.transfer_key, 0, jobs.TRANSFER_KEY)
    _prune(jobs_directory(paths.state))
    jobs.start(job, [PROGRAM, "stage-run", job])
    return job


def _prune(folder: Path) -> None:
    done = [path.parent for path in folder.glob("*/result.json")]
    for path in sorted(done, key=lambda p: p.stat().st_mtime)[:-KEPT_JOBS]:
        shutil.rmtree(path, ignore_errors=True)


def run(job: str, paths: Paths, give_back: Callable[[], str] = lambda: "") -> int:
    """Carry the job out; its end is in the diary. Return an exit code.

    ``give_back`` is called when all has come: what was written fills the page cache, and on a Spark that is
    memory which an engine's start would miss. It returns what it did.
    """
    folder = jobs_directory(paths.state) / job
    journal = Journal(folder, time.time)
    token, key = jobs.secret(job), jobs.secret(job, jobs.TRANSFER_KEY)
    try:
        request = request_of(folder)
        with _alone(paths.state, journal):
            copy_image.sweep(paths.state)
            may_read(request.get("ask", ()), token)
            request = derive.with_what_is_here(request)
            for reference in request.get("images", ()):
                with staged.image(paths.state, reference):
                    began = time.monotonic()
                    count = pull(reference, Path(request["user"]["home"]), journal)
                    rates.note(paths.state, rates.PULL, count, time.monotonic() - began)
            for weights in request.get("weights", ()):
                fetch(weights, request["user"], token if token.exists() else None, journal, paths.state)
            for order in request.get("copies", ()):
                copy(order, request["user"], key.read_text(encoding="utf-8"), journal, paths.state)
            for order in request.get("image_copies", ()):
                whole = {**order, "transfer_key": key.read_text(encoding="utf-8")}
                copy_image.bring(whole, Path(request["user"]["home"]), journal, paths.state)
            for order in request.get("carried_images", ()):
                whole = {**order, "transfer_key": key.read_text(encoding="utf-8")}
                carried_image.bring(whole, journal, paths.state)
            for order in request.get("derived", ()):
                build = derive.with_key(order, key)
                derive.build(build, Path(request["user"]["home"]), journal, paths.state)
            if any(request.get(kind) for kind in BROUGHT):
                journal.log("note", give_back(), phase="valve")
            result: dict[str, Any] = {"outcome": "staged", "text": "all there"}
            if request["export"]:
                result["exported"] = copy_image.export(
                    request["export"], request["user"], paths.state, journal
                )
            if request["prune"] is not None:
                result = prune.carry_out(request["prune"], paths.state, journal)
            if request["verify"] is not None:
                result = verify.carry_out(request["verify"], paths.state, journal)
        journal.finish(StageResult.from_json(result))
    except StageError as error:
        journal.finish(StageResult.from_json(error.result))
        return 1
    except Exception as error:
        journal.finish(StageResult("failed", cause=f"{type(error).__name__}: {error}", remedy="run again"))
        return 1
    finally:
        jobs.forget_secrets(job)
    return 0


def request_of(folder: Path) -> dict[str, Any]:
    """Return the request of a job. Raise StageError for one that cannot be read."""
    path = folder / "request.json"
    try:
        request = files.read_document(StageRequest, path)
    except ContractError as error:
        wrong = error.diagnostic
        raise StageError(f"{path}: {wrong.message}", wrong.hint or "run again") from None
    if request is None:
        raise StageError(f"{path} is not there", "run again")
    return request.to_json()


def may_read(asked: Sequence[dict[str, Any]], token: Path) -> None:
    """Raise StageError for a model that the hub will not give to this token, before a download."""
    known = token.read_text(encoding="utf-8") if token.exists() else ""
    for weights in asked:
        missing = wrong_files(
            repository(weights["models_dir"], weights["repo"]), weights["revision"], weights["files"]
        )
        if missing:
            words = (weights["endpoint"], weights["repo"], weights["revision"], missing[0]["path"])
            refused = hub_access.refusal(hub_access.ask(*words, known), weights["repo"], weights["endpoint"])
            if refused:
                raise StageError(*refused, refused=True)


@contextmanager
def _alone(state: Path, journal: Journal) -> Iterator[None]:
    with (state / "stage.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            journal.log("waiting", "another fetch is going on")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def follow(job: str, paths: Paths, since: int, wait_s: float) -> int:
    """Print the events from ``since`` on; wait for news at most ``wait_s`` seconds. The result is last."""
    folder = jobs_directory(paths.state) / job
    end = time.monotonic() + wait_s
    while True:
        events = read_events(folder, since)
        if events or time.monotonic() > end:
            break
        if not jobs.is_going_on(job) and not (folder / "result.json").exists():
            lost = StageResult(
                LOST,
                cause="the job ended without a result (reboot?)",
                remedy="run again: complete files are kept",
            )
            events = [Event(since, RESULT, result=lost.to_json())]
            break
        time.sleep(0.1)
    for event in events:
        sys.stdout.write(json.dumps(event.to_json()) + "\n")
    return 0
