"""Fetch images and weights to this Spark while it serves on: a job of its own, which outlives the operator.

A job is a directory ``jobs/<id>/`` with the diary of ``journal``. The token, if any, is never in it: it lies
in
``/run/sparkfleet/<id>.token`` (memory, 0600, the login user's) while the job runs, mounted read-only into the
container that downloads.
"""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sparkfleet.onhost import files
from sparkfleet.onhost.docker import SOCKET, DockerEngine, _Connection
from sparkfleet.onhost.journal import Journal, read_events
from sparkfleet.onhost.redact import redact
from sparkfleet.onhost.system import PROGRAM, Paths

RUN_DIR = Path("/run/sparkfleet")
KEPT_JOBS = 10
TELL_EVERY_S = 5.0
FIRST_ERROR = 400
TOKEN_IN_CONTAINER = "/run/secrets/hf-token"  # noqa: S105  (a path)
FETCH_LABEL = "io.sparkfleet.fetch"

CAUSES = (
    (
        r"GatedRepo|Access to model .* is restricted|is gated",
        "the model is gated: its licence is not accepted for this token",
        "accept the licence on the model's page on the hub, then run again",
    ),
    (
        r"401|Invalid (?:username|user token)|LocalTokenNotFound",
        "the hub wants a token, or does not know the one given",
        "set hf_token in group_data (env:HF_TOKEN) to a token that may read this model",
    ),
    (
        r"403|Forbidden",
        "the hub refuses this token",
        "accept the licence on the model's page, with the account that owns the token",
    ),
    (
        r"RepositoryNotFound",
        "the hub does not know this model repository",
        "mend `model:`, then: sparkfleet lock",
    ),
    (r"RevisionNotFound", "the hub does not know this commit", "sparkfleet lock --update, then run again"),
    (
        r"EntryNotFound",
        "the hub does not have a file of the locked commit",
        "sparkfleet lock --update, then run again",
    ),
    (
        r"429|Too Many Requests",
        "the hub limits the rate",
        "wait some minutes, then run again: what is there is kept",
    ),
    (
        r"No space left|ENOSPC|Errno 28",
        "the disk is full",
        "df -h; free some room, then run again: what is there is kept",
    ),
    (
        r"Name or service not known|Temporary failure in name resolution",
        "the hub's name cannot be resolved",
        "check DNS on the Spark",
    ),
    (
        r"Connect(?:ion)?Error|Connection refused|[Tt]imed? ?out|disconnected|IncompleteRead|RemoteProtocol",
        "the connection to the hub broke",
        "run again: what is there is kept",
    ),
)
"""What ``hf download`` says -> cause and remedy; the first that matches wins."""


class StageError(Exception):
    """A job cannot go on; carries cause, remedy and the line itself."""

    def __init__(self, cause: str, remedy: str, line: str = "") -> None:
        """Keep the three parts."""
        super().__init__(cause)
        self.result = {"outcome": "failed", "cause": cause, "remedy": remedy, "line": line}


def jobs_directory(state: Path) -> Path:
    """Return where the jobs' diaries lie."""
    return state / "jobs"


def begin(request: dict[str, Any], paths: Paths) -> str:
    """Write the request and start the job detached from whoever asked. Return its id.

    Asked twice (the operator's connection broke in between) it is started once.
    """
    job = str(request["id"])
    if not re.fullmatch(r"[a-z0-9-]{1,64}", job):
        raise ValueError(f"bad job id {job!r}")
    token = request.pop("token", "")
    folder = jobs_directory(paths.state) / job
    if (folder / "result.json").exists() or _is_going_on(job):
        return job
    files.write_json(folder / "request.json", request)
    if token:
        _keep_token(job, token, int(request["user"]["uid"]))
    _prune(jobs_directory(paths.state))
    words = ["systemd-run", "--quiet", "--collect", f"--unit=sparkfleet-stage-{job}", "--property=Nice=5"]
    done = subprocess.run(
        [*words, "/usr/bin/python3", "-I", "-B", PROGRAM, "stage-run", job],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"systemd-run: {done.stderr.strip()}")
    return job


def _keep_token(job: str, token: str, uid: int) -> None:
    RUN_DIR.mkdir(mode=0o755, exist_ok=True)
    path = RUN_DIR / f"{job}.token"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchown(file.fileno(), uid, -1)
        file.write(token)


def _prune(folder: Path) -> None:
    done = [path.parent for path in folder.glob("*/result.json")]
    for path in sorted(done, key=lambda p: p.stat().st_mtime)[:-KEPT_JOBS]:
        shutil.rmtree(path, ignore_errors=True)


def run(job: str, paths: Paths) -> int:
    """Carry the job out; its end is in the diary. Return an exit code."""
    folder = jobs_directory(paths.state) / job
    journal = Journal(folder, time.time)
    request = files.read_json(folder / "request.json") or {}
    token = RUN_DIR / f"{job}.token"
    try:
        with _alone(paths.state, journal):
            for reference in request.get("images", ()):
                _pull(reference, Path(request["user"]["home"]), journal)
            for weights in request.get("weights", ()):
                _fetch(weights, request["user"], token if token.exists() else None, job, journal)
        journal.finish({"outcome": "staged", "text": "all there"})
    except StageError as error:
        journal.finish(error.result)
        return 1
    except Exception as error:
        journal.finish(
            {"outcome": "failed", "cause": f"{type(error).__name__}: {error}", "remedy": "run again"}
        )
        return 1
    finally:
        files.remove(token)
    return 0


@contextmanager
def _alone(state: Path, journal: Journal) -> Iterator[None]:
    with (state / "stage.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            journal.tell("waiting", "another fetch is going on")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pull(reference: str, home: Path, journal: Journal) -> None:
    if DockerEngine().has_image(reference):
        return
    name, _, digest = reference.partition("@")
    journal.tell("phase", f"{name} begins", phase="pull")
    connection = _Connection(SOCKET, 900)
    headers = {"X-Registry-Auth": _credentials(name, home)} if _credentials(name, home) else {}
    connection.request("POST", f"/images/create?fromImage={quote(name)}&tag={quote(digest)}", headers=headers)
    response = connection.getresponse()
    layers: dict[str, tuple[int, int]] = {}
    last, problem = time.monotonic(), ""
    try:
        for raw in response:
            event = json.loads(raw)
            problem = (
                event.get("error")
                or problem
                or (event.get("message", "") if response.status >= FIRST_ERROR else "")
            )
            detail = event.get("progressDetail") or {}
            if event.get("status") == "Downloading" and detail.get("total"):
                layers[event["id"]] = (detail["current"], detail["total"])
            if time.monotonic() - last > TELL_EVERY_S and layers:
                last = time.monotonic()
                have, total = (sum(pair[i] for pair in layers.values()) for i in (0, 1))
                journal.tell(
                    "phase", f"{name} {have >> 20} of {total >> 20} MiB", phase="pull", have=have, total=total
                )
    except (OSError, ValueError, http.client.HTTPException) as error:
        problem = problem or f"the connection to dockerd broke: {error}"
    finally:
        connection.close()
    if problem or not DockerEngine().has_image(reference):
        raise StageError(
            f"image {name} could not be pulled: {problem or 'no reason given'}", _pull_remedy(problem, name)
        )
    journal.tell("phase", f"{name} is here", phase="pull")


def _pull_remedy(problem: str, name: str) -> str:
    if re.search(r"unauthorized|denied|authentication required", problem):
        return f"on the Spark: docker login {name.split('/', maxsplit=1)[0]}; then run again"
    if re.search(r"manifest unknown|not found", problem):
        return "the digest is gone from the registry: sparkfleet lock --update, then run again"
    if "no space left" in problem:
        return "docker image prune; then run again: whole layers are kept"
    return "check the registry's reach from the Spark, then run again: whole layers are kept"


def _credentials(name: str, home: Path) -> str:
    """Return the X-Registry-Auth header from the login user's or root's docker config, "" for none."""
    registry = name.split("/", maxsplit=1)[0]
    keys = {registry, f"https://{registry}"} | (
        {"https://index.docker.io/v1/"} if registry == "docker.io" else set()
    )
    for folder in (home, Path("/root")):
        known = (files.read_json(folder / ".docker" / "config.json") or {}).get("auths", {})
        for key in keys & known.keys():
            user, _, password = base64.b64decode(known[key].get("auth", "")).decode().partition(":")
            words = {"username": user, "password": password, "serveraddress": key}
            return base64.urlsafe_b64encode(json.dumps(words).encode()).decode()
    return ""


def repository(models_dir: str, repo: str) -> Path:
    """Return the hub cache's directory of a model repository."""
    return Path(models_dir) / "hub" / f"models--{repo.replace('/', '--')}"


def wrong_files(root: Path, revision: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the wanted files that are not whole in the snapshot, by size and blob."""
    wrong = []
    for file in wanted:
        path = root / "snapshots" / revision / file["path"]
        blob = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
        try:
            whole = path.stat().st_size == file["size"] and (
                not blob or not file["blob"] or blob == file["blob"]
            )
        except OSError:
            whole = False
        if not whole:
            wrong.append(file)
    return wrong


def _clear(root: Path, revision: str, wrong: list[dict[str, Any]]) -> None:
    """Remove what is broken, link and content: the download takes any blob that exists for a whole one."""
    for file in wrong:
        path = root / "snapshots" / revision / file["path"]
        target = path.resolve() if path.is_symlink() else None
        path.unlink(missing_ok=True)
        if target is not None and target.is_file() and target.is_relative_to(root.resolve()):
            if target.stat().st_size != file["size"]:
                target.unlink()


def _fetch(
    weights: dict[str, Any], user: dict[str, Any], token: Path | None, job: str, journal: Journal
) -> None:
    root = repository(weights["models_dir"], weights["repo"])
    wanted = weights["files"]
    wrong = wrong_files(root, weights["revision"], wanted)
    if not wrong:
        return
    total = sum(file["size"] for file in wrong)
    journal.tell(
        "phase",
        f"{weights['repo']}: {len(wrong)} files, {total >> 20} MiB",
        phase="download",
        have=0,
        total=total,
    )
    _clear(root, weights["revision"], wrong)
    _stop_leftovers()
    process = subprocess.Popen(
        download_words(weights, [file["path"] for file in wrong], user, token, job),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    began_with = _bytes_there(root)
    while True:
        try:
            out, _ = process.communicate(timeout=TELL_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            have = max(0, _bytes_there(root) - began_with)
            text = f"{weights['repo']} {have >> 20} of {total >> 20} MiB"
            journal.tell("phase", text, phase="download", have=have, total=total)
    out = redact(out)
    still = wrong_files(root, weights["revision"], wanted)
    if process.returncode or still:
        raise _download_error(weights["repo"], out, still)
    journal.tell("phase", f"{weights['repo']} is here", phase="download")


def download_words(
    weights: dict[str, Any], paths: list[str], user: dict[str, Any], token: Path | None, job: str
) -> list[str]:
    """Return the argv of the download: ``hf`` of the pinned image, as the login user, into the models
    directory.
    """
    words = ["docker", "run", "--rm", "--name", f"sparkfleet-fetch-{job}", "--label", f"{FETCH_LABEL}={job}"]
    words += ["--network", "host", "--user", f"{user['uid']}:{user['gid']}"]
    words += [
        "--mount",
        f"type=bind,source={weights['models_dir']},target=/models",
        "--env",
        "HF_HOME=/models",
    ]
    words += [
        "--env",
        "HF_HUB_DISABLE_TELEMETRY=1",
        "--env",
        "HF_HUB_DISABLE_PROGRESS_BARS=1",
        "--env",
        "HOME=/tmp",
    ]
    if weights.get("endpoint"):
        words += ["--env", f"HF_ENDPOINT={weights['endpoint']}"]
    if token is not None:
        words += ["--mount", f"type=bind,source={token},target={TOKEN_IN_CONTAINER},readonly"]
        words += ["--env", f"HF_TOKEN_PATH={TOKEN_IN_CONTAINER}"]
    words += ["--entrypoint", "hf", weights["image"], "download", weights["repo"], *paths]
    return [*words, "--revision", weights["revision"]]


def _stop_leftovers() -> None:
    """Remove a download whose job was killed: two at once would wait for each other's locks."""
    words = ["docker", "ps", "--all", "--quiet", "--filter", f"label={FETCH_LABEL}"]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
    if found:
        subprocess.run(["docker", "rm", "--force", *found], capture_output=True, check=False)


def _bytes_there(root: Path) -> int:
    """Return the bytes on disk of the repository's blobs, half files included (by blocks: they may be
    sparse).
    """
    total = 0
    for path in (root / "blobs").glob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue
    return total


def _download_error(repo: str, out: str, still: list[dict[str, Any]]) -> StageError:
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    for pattern, cause, remedy in CAUSES:
        hit = next((line for line in reversed(lines) if re.search(pattern, line)), None)
        if hit:
            return StageError(f"{repo}: {cause}", remedy, hit[:300])
    if still and not lines:
        return StageError(f"{repo}: {len(still)} files are not whole after the download", "run again")
    return StageError(
        f"{repo}: the download failed", "run again: what is there is kept", (lines or [""])[-1][:300]
    )


def follow(job: str, paths: Paths, since: int, wait_s: float) -> int:
    """Print the events from ``since`` on; wait for news at most ``wait_s`` seconds. The result is last."""
    folder = jobs_directory(paths.state) / job
    end = time.monotonic() + wait_s
    while True:
        events = read_events(folder, since)
        if events or time.monotonic() > end:
            break
        if not _is_going_on(job) and not (folder / "result.json").exists():
            events = [
                {
                    "n": since,
                    "kind": "result",
                    "outcome": "lost",
                    "cause": "the job ended without a word (reboot?)",
                    "remedy": "run again: what is there is kept",
                }
            ]
            break
        time.sleep(0.1)
    for event in events:
        sys.stdout.write(json.dumps(event) + "\n")
    return 0


def _is_going_on(job: str) -> bool:
    words = ["systemctl", "is-active", "--quiet", f"sparkfleet-stage-{job}.service"]
    return subprocess.run(words, check=False).returncode == 0
