"""The files of a model repository at its commit, by the pinned image's ``hf download``, as the login user."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.fetch import rates, staged, verified
from sparkfleet.onhost.artifacts.fetch.hub_cache import clear, repository, wrong_files
from sparkfleet.onhost.artifacts.fetch.pull import TELL_EVERY_S, StageError
from sparkfleet.onhost.machine.redact import redact
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine

TOKEN_IN_CONTAINER = "/run/secrets/hf-token"  # noqa: S105  (a path)
FETCH_LABEL = "io.sparkfleet.fetch"
"""Label of the container that downloads: one that was left behind is ours to remove."""

CAUSES = (
    (
        r"GatedRepo|Access to model .* is restricted|is gated",
        "the model is gated: its licence is not accepted for this token",
        "accept the licence on the model's page on the hub, then run again",
    ),
    (
        r"\b401\b|Invalid (?:username|user token)|LocalTokenNotFound",
        "the hub wants a token, or does not know the one given",
        "set hf_token in group_data (env:HF_TOKEN) to a token that may read this model",
    ),
    (
        r"\b403\b|Forbidden",
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
        r"\b429\b|Too Many Requests",
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
        r"No route to host|Network is unreachable",
        "no way leads to the hub",
        "check the Spark's network, then run again: what is there is kept",
    ),
    (
        r"Connect(?:ion)?Error|Connection refused|[Tt]imed? ?out|disconnected|IncompleteRead|RemoteProtocol",
        "the connection to the hub broke",
        "run again: what is there is kept",
    ),
)
"""What ``hf download`` says -> cause and remedy; the first that matches wins."""

ANSWERS = ("the model is gated", "the hub wants", "the hub refuses", "the hub does not", "the hub limits")
"""How those causes begin that are the hub's own answer."""


def fetch(
    weights: dict[str, Any],
    user: dict[str, Any],
    token: Path | None,
    journal: Journal,
    state: Path,
) -> None:
    """Download what is missing or broken, telling how far it is. Raise StageError if it is not whole then."""
    root = repository(weights["models_dir"], weights["repo"])
    wanted = weights["files"]
    record = verified.read(state)
    wrong = wrong_files(root, weights["revision"], wanted, record)
    if not wrong:
        return
    total = sum(file["size"] for file in wrong)
    journal.log(
        "phase",
        f"{weights['repo']}: {len(wrong)} files, {total >> 20} MiB",
        phase="download",
        have=0,
        total=total,
    )
    snapshot = root / "snapshots" / weights["revision"]
    whole = sum(file["size"] for file in wanted)
    staged.revision(state, snapshot, weights["repo"], weights["revision"], whole)
    clear(root, weights["revision"], wrong, record)
    _stop_leftovers()
    process = _download(weights, wrong, user, token, journal.directory.name)
    began, began_with = time.monotonic(), _bytes_there(root)
    while True:
        try:
            out, _ = process.communicate(timeout=TELL_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            have = max(0, _bytes_there(root) - began_with)
            text = f"{weights['repo']} {have >> 20} of {total >> 20} MiB"
            journal.log("phase", text, phase="download", have=have, total=total)
    out = redact(out)
    still = wrong_files(root, weights["revision"], wanted)
    if process.returncode or still:
        raise download_error(weights["repo"], out, still)
    rates.note(state, rates.DOWNLOAD, _bytes_there(root) - began_with, time.monotonic() - began)
    _verify(weights, wrong, journal, state)
    journal.log("phase", f"{weights['repo']} is here", phase="download")


def _download(
    weights: dict[str, Any], wrong: list[dict[str, Any]], user: dict[str, Any], token: Path | None, job: str
) -> subprocess.Popen[str]:
    """Start the download: by ``hf`` of the image, or by our own client where the image has none."""
    output: dict[str, Any] = {
        "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace",
    }  # fmt: skip
    if weights.get("hub_client", "hf"):
        image = DockerEngine().name_of(weights["image"]) or weights["image"]
        paths = [file["path"] for file in wrong]
        return subprocess.Popen(download_argv({**weights, "image": image}, paths, user, token, job), **output)
    request = {**weights, "files": wrong, "token": str(token) if token else ""}
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", PROGRAM, "hub-download"],
        stdin=subprocess.PIPE,
        user=user["uid"],
        group=user["gid"],
        extra_groups=(),
        **output,
    )
    if process.stdin is None:
        raise RuntimeError("the download has no stdin")
    process.stdin.write(json.dumps(request))
    process.stdin.close()
    process.stdin = None  # communicate() would flush it
    return process


def _verify(weights: dict[str, Any], arrived: list[dict[str, Any]], journal: Journal, state: Path) -> None:
    """Hash what has arrived. What has another content than the locked one goes at once: raise StageError."""
    repo, revision = weights["repo"], weights["revision"]
    root = repository(weights["models_dir"], repo)
    journal.log("phase", f"{repo}: {len(arrived)} files", phase="verify")
    by_path = {root / "snapshots" / revision / file["path"]: file for file in arrived if file["blob"]}
    wanted = [verified.FileToVerify(path, file["blob"]) for path, file in by_path.items()]
    changed = [by_path[one.path] for one in verified.check(state, wanted, lambda _: None)]
    if changed:
        clear(root, revision, changed, verified.read(state))
        names = ", ".join(file["path"] for file in changed[:3])
        raise StageError(
            f"{repo}: {len(changed)} of {len(arrived)} files arrived with another content than the locked one"
            f" ({names}); they are not kept",
            "run again: they alone are fetched anew; if it stays, the hub or a proxy before it is broken",
        )


def download_argv(
    weights: dict[str, Any], paths: list[str], user: dict[str, Any], token: Path | None, job: str
) -> list[str]:
    """Return the argv of the download: ``hf`` of the pinned image, as the login user, into the models
    directory.
    """
    argv = ["docker", "run", "--rm", "--name", f"sparkfleet-fetch-{job}", "--label", f"{FETCH_LABEL}={job}"]
    argv += ["--network", "host", "--user", f"{user['uid']}:{user['gid']}"]
    argv += [
        "--mount",
        f"type=bind,source={weights['models_dir']},target=/models",
        "--env",
        "HF_HOME=/models",
    ]
    argv += [
        "--env",
        "HF_HUB_DISABLE_TELEMETRY=1",
        "--env",
        "HF_HUB_DISABLE_PROGRESS_BARS=1",
        "--env",
        "HOME=/tmp",
    ]
    if weights.get("endpoint"):
        argv += ["--env", f"HF_ENDPOINT={weights['endpoint']}"]
    if token is not None:
        argv += ["--mount", f"type=bind,source={token},target={TOKEN_IN_CONTAINER},readonly"]
        argv += ["--env", f"HF_TOKEN_PATH={TOKEN_IN_CONTAINER}"]
    argv += ["--entrypoint", "hf", weights["image"], "download", weights["repo"], *paths]
    return [*argv, "--revision", weights["revision"]]


def _stop_leftovers() -> None:
    """Remove a download whose job was killed: two at once would wait for each other's locks."""
    argv = ["docker", "ps", "--all", "--quiet", "--filter", f"label={FETCH_LABEL}"]
    found = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
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


_PLACE = re.compile(r'\s*File ".*", line \d+')
"""Where in a program an error was: ``line 401`` is no answer of the hub."""


def download_error(repo: str, out: str, still: list[dict[str, Any]]) -> StageError:
    """Return what a download that failed said, as cause, remedy and the telling line."""
    lines = [line.strip() for line in out.splitlines() if line.strip() and not _PLACE.match(line)]
    for pattern, cause, remedy in CAUSES:
        hit = next((line for line in reversed(lines) if re.search(pattern, line)), None)
        if hit:
            return StageError(f"{repo}: {cause}", remedy, hit[:300], refused=cause.startswith(ANSWERS))
    if still and not lines:
        return StageError(f"{repo}: {len(still)} files are not whole after the download", "run again")
    return StageError(
        f"{repo}: the download failed", "run again: what is there is kept", (lines or [""])[-1][:300]
    )
