"""Downloads the files of a model repository, with the ``hf`` of the pinned image or our own client."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sparkfleet.contract import codec, hub_access
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.stage import HubDownloadRequest, LoginUser, ModelDownload, ModelFile
from sparkfleet.onhost.artifacts import pace
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record, hash_record, http_download, rates
from sparkfleet.onhost.artifacts.fetch.hub_cache import clear, repository, wrong_files
from sparkfleet.onhost.artifacts.fetch.pull import PROGRESS_EVERY_S
from sparkfleet.onhost.machine.redact import redact
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import BindMount, ImageCommand, RuntimeRefusedError, RuntimeUnavailableError

TOKEN_IN_IMAGE = "/run/secrets/hf-token"  # noqa: S105  (a path)
FETCH_LABEL, FETCH_PREFIX = "io.sparkfleet.fetch", "sparkfleet-fetch-"
"""Label and name of the instance that downloads; one that was left behind is removed by them."""


def _cause(pattern: str, found: str, remedy: str, code: str = "staging-failed") -> tuple[str, Diagnostic]:
    return pattern, Diagnostic("", found, hint=remedy, code=code)


CAUSES = (
    _cause(
        http_download.LOCK_DIFFERS,  # a commit never changes: another attempt would end in the same way
        "the hub has another file than fleet.lock says",
        "correct the entry in fleet.lock: sparkfleet lock INVENTORY --update {repo}; if it stays the same, a "
        "proxy or mirror changes the content",
        "lock-content-differs",
    ),
    _cause(
        re.escape(pace.TOO_SLOW),
        "the hub sends too slowly",
        "check the network between this Spark and the hub, then run again; completed data is kept",
        pace.CODE,
    ),
    _cause(
        r"GatedRepo|Access to model .{1,200} is restricted|is gated",
        "the model is gated, and its licence is not accepted for this token",
        "accept the licence on the model's page on the hub, then run again",
        hub_access.REFUSED,
    ),
    _cause(
        r"\b401\b|Invalid (?:username|user token)|LocalTokenNotFound",
        "the hub requires a token, or does not know this one",
        "set hf_token in group_data (env:HF_TOKEN) to a token that may read this model",
        hub_access.REFUSED,
    ),
    _cause(
        r"\b403\b|Forbidden",
        "the hub refuses this token",
        "accept the licence on the model's page, with the account that owns the token",
        hub_access.REFUSED,
    ),
    _cause(
        r"RepositoryNotFound",
        "the hub does not know this model repository",
        "correct `model:`, then: sparkfleet lock",
        hub_access.REFUSED,
    ),
    _cause(
        r"RevisionNotFound",
        "the hub does not know this commit",
        "sparkfleet lock --update, then run again",
        hub_access.REFUSED,
    ),
    _cause(
        r"EntryNotFound",
        "the hub does not have a file of the locked commit",
        "sparkfleet lock --update, then run again",
        hub_access.REFUSED,
    ),
    _cause(
        r"\b429\b|Too Many Requests",
        "the hub limits the request rate",
        "wait some minutes, then run again; completed data is kept",
        hub_access.REFUSED,
    ),
    _cause(
        r"No space left|ENOSPC|Errno 28",
        "the disk is full",
        "free disk space (df -h), then run again; completed data is kept",
        "disk-full",
    ),
    _cause(
        r"Name or service not known|Temporary failure in name resolution",
        "the hub's name cannot be resolved",
        "check DNS on the Spark",
    ),
    _cause(
        r"No route to host|Network is unreachable",
        "there is no route to the hub",
        "check the Spark's network, then run again; completed data is kept",
    ),
    _cause(
        r"certificate (?:is not yet valid|has expired)",
        "the hub's certificate is not valid at the date of the Spark",
        "on the Spark: date; sudo timedatectl set-ntp true; then run again",
    ),
    _cause(
        r"Connect(?:ion)?Error|Connection refused|[Tt]imed? ?out|disconnected|IncompleteRead|RemoteProtocol",
        "the connection to the hub broke",
        "run again; completed data is kept",
    ),
)
"""Pattern in the output of ``hf download``, and why the download failed; the first that matches wins."""


def fetch(model: ModelDownload, user: LoginUser, token: Path | None, journal: Journal, state: Path) -> None:
    """Download missing and broken files. Raise StageError if the model is incomplete afterwards."""
    root = repository(model.models_dir, model.repo)
    record = hash_record.read(state)
    wrong = wrong_files(root, model.revision, model.files, record)
    if not wrong:
        return
    total = sum(file.size for file in wrong)
    text = f"{model.repo}: {len(wrong)} files, {total >> 20} MiB"
    journal.log("phase", text, phase="download", have=0, total=total)
    snapshot = root / "snapshots" / model.revision
    fetch_record.revision(state, snapshot, model.repo, model.revision, sum(file.size for file in model.files))
    clear(root, model.revision, wrong, record)
    # A download whose job was killed may still run: two would wait for each other's locks.
    _remove_instances()
    process = _start(replace(model, files=tuple(wrong)), user, token, journal.directory.name)
    began, before = time.monotonic(), _bytes_on_disk(root)
    hub = urllib.parse.urlsplit(model.endpoint or hub_access.HUB).netloc
    judged = pace.Pace(hub, model.repo, pace.HUB_CLIENT_WINDOW_S)
    while True:
        try:
            out, _ = process.communicate(timeout=PROGRESS_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            have = max(0, _bytes_on_disk(root) - before)
            text = f"{model.repo} {have >> 20} of {total >> 20} MiB"
            journal.log("phase", text, phase="download", have=have, total=total)
            try:
                judged.check(have)
            except pace.TooSlowError as error:
                _end(process)
                raise pace.too_slow(model.repo, error, hub) from None
    incomplete = wrong_files(root, model.revision, model.files)
    if process.returncode or incomplete:
        found = redact(out)
        if not process.returncode:
            found += _differing(snapshot, incomplete)
        raise download_error(model.repo, found, len(incomplete))
    rates.note(state, rates.DOWNLOAD, _bytes_on_disk(root) - before, time.monotonic() - began)
    _verify(model, wrong, journal, state)
    journal.log("phase", f"{model.repo} is complete", phase="download")


def _remove_instances() -> None:
    with suppress(RuntimeUnavailableError):  # then none runs
        onhost.images().remove_instances(FETCH_LABEL, FETCH_PREFIX)


def _end(process: subprocess.Popen[str]) -> None:
    """End a download: the process, and the instance that it may have started."""
    process.kill()
    with suppress(RuntimeRefusedError):
        _remove_instances()


def _differing(snapshot: Path, files: Sequence[ModelFile]) -> str:
    """Return a line about the first file that arrived whole, but not as the lock file says; "" for none."""
    found = [(file, snapshot / file.path) for file in files if (snapshot / file.path).is_file()]
    for file, path in found:
        size = path.stat().st_size
        what = f"{size} bytes, not {file.size}" if size != file.size else "another content of the same size"
        return f"\n{file.path} {http_download.LOCK_DIFFERS}: {what}"
    return ""


def _start(model: ModelDownload, user: LoginUser, token: Path | None, job: str) -> subprocess.Popen[str]:
    """Start the download of the model's files: by ``hf`` of the image, or by our own client."""
    if model.hub_client:
        return onhost.images().start_command(download_command(model, user, token, job))
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", PROGRAM, "hub-download"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        user=user.uid,
        group=user.gid,
        extra_groups=(),
    )
    if process.stdin is None:
        raise RuntimeError("the download has no stdin")
    process.stdin.write(codec.dumps(HubDownloadRequest(model, str(token or ""))))
    process.stdin.close()
    process.stdin = None  # communicate() would flush it
    return process


def _verify(model: ModelDownload, downloaded: Sequence[ModelFile], journal: Journal, state: Path) -> None:
    """Hash the downloaded files and remove those whose content is wrong: raise StageError."""
    root = repository(model.models_dir, model.repo)
    journal.log("phase", f"{model.repo}: {len(downloaded)} files", phase="verify")
    by_path = {root / "snapshots" / model.revision / file.path: file for file in downloaded if file.blob}
    to_verify = [hash_record.FileToVerify(path, file.blob) for path, file in by_path.items()]
    changed = [by_path[one.path] for one in hash_record.check(state, to_verify, lambda _: None)]
    if changed:
        clear(root, model.revision, changed, hash_record.read(state))
        names = ", ".join(file.path for file in changed[:3])
        raise StageError(
            model.repo,
            f"{len(changed)} of {len(downloaded)} downloaded files do not match the lock file ({names}); "
            "they were discarded",
            "run again, which downloads only these; if it persists, the hub or a proxy changes the content",
            code="weights-corrupt",
        )


def download_command(model: ModelDownload, user: LoginUser, token: Path | None, job: str) -> ImageCommand:
    """Return the download by ``hf`` of the pinned image, as the login user, into the models directory."""
    mounts = [BindMount(model.models_dir, "/models")]
    environment = [
        ("HF_HOME", "/models"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HOME", "/tmp"),  # noqa: S108  (in the image)
    ]
    if model.endpoint:
        environment.append(("HF_ENDPOINT", model.endpoint))
    if token is not None:
        mounts.append(BindMount(str(token), TOKEN_IN_IMAGE, read_only=True))
        environment.append(("HF_TOKEN_PATH", TOKEN_IN_IMAGE))
    paths = (file.path for file in model.files)
    return ImageCommand(
        f"{FETCH_PREFIX}{job}",
        FETCH_LABEL,
        model.image,
        ("hf", "download", model.repo, *paths, "--revision", model.revision),
        user.uid,
        user.gid,
        tuple(mounts),
        tuple(environment),
    )


def _bytes_on_disk(root: Path) -> int:
    """Return the allocated bytes of the repository's blobs, partial files included (they may be sparse)."""
    total = 0
    for path in (root / "blobs").glob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue
    return total


_TRACEBACK_LINE = re.compile(r'\s*File ".*", line \d+')
"""``line 401`` in a traceback is not a status of the hub."""


def download_error(repo: str, output: str, incomplete: int) -> StageError:
    """Return the error of a failed download, with the relevant line of its output."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not _TRACEBACK_LINE.match(line)]
    for pattern, known in CAUSES:
        line = next((line for line in reversed(lines) if re.search(pattern, line)), None)
        if line:
            hint = known.hint.format(repo=repo)
            return StageError(repo, known.message, hint, line[:300], code=known.code)
    if incomplete and not lines:
        return StageError(repo, f"{incomplete} files are incomplete after the download", "run again")
    last = (lines or [""])[-1][:300]
    return StageError(repo, "the download failed", "run again; completed data is kept", last)
