"""Stage jobs: complete files are kept, broken ones removed, errors of the hub get cause and remedy."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract import codec, command, hub_access
from sparkfleet.contract.command import CommandResult
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.stage import LoginUser, ModelDownload, ModelFile, StageRequest, StageResult
from sparkfleet.onhost.artifacts import stage
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch, fetch_record, hash_record, hub_cache
from sparkfleet.onhost.artifacts.image import derive
from sparkfleet.onhost.machine import jobs
from sparkfleet.onhost.machine.system import Paths
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import BindMount, ImageCommand
from tests.unit.onhost.artifacts.fake_images import FakeImages
from tests.unit.onhost.artifacts.fetch.cache_of_test import REVISION, put

USER = {"name": "nvidia", "uid": os.getuid(), "gid": os.getgid(), "home": "/home/nvidia"}
LOGIN = LoginUser("nvidia", os.getuid(), os.getgid(), "/home/nvidia")


def download_command(token: Path | None = None, endpoint: str = "") -> ImageCommand:
    files = (ModelFile("config.json", 5, "c1"),)
    model = ModelDownload("org/name", REVISION, "/m", files, "repo@sha256:1", endpoint)
    return fetch.download_command(model, LOGIN, token, "stage-1")


def test_the_download_runs_in_the_pinned_image_as_the_login_user_for_the_named_files_alone() -> None:
    found = download_command()
    assert (found.uid, found.gid, found.image) == (os.getuid(), os.getgid(), "repo@sha256:1")
    assert found.argv == ("hf", "download", "org/name", "config.json", "--revision", REVISION)
    assert found.mounts == (BindMount("/m", "/models"),)
    assert "HF_ENDPOINT" not in dict(found.environment)


def test_the_token_is_a_mounted_file_and_never_an_argument() -> None:
    found = download_command(Path("/run/sparkfleet/stage-1.token"), "http://hub")
    assert BindMount("/run/sparkfleet/stage-1.token", "/run/secrets/hf-token", read_only=True) in found.mounts
    environment = dict(found.environment)
    assert environment["HF_TOKEN_PATH"] == "/run/secrets/hf-token"
    assert environment["HF_ENDPOINT"] == "http://hub"


OUTPUT = {
    "GatedRepoError: 403 Client Error. Access to model org/name is restricted": "the model is gated",
    "401 Client Error: Unauthorized for url": "requires a token",
    "403 Forbidden": "refuses this token",
    "RepositoryNotFoundError: 404": "does not know this model",
    "RevisionNotFoundError: 404": "does not know this commit",
    "EntryNotFoundError: 404": "does not have a file",
    "429 Too Many Requests": "limits the request rate",
    "OSError: [Errno 28] No space left on device": "the disk is full",
    "Name or service not known": "name cannot be resolved",
    "httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid": "at the date",
    "httpx.ConnectError: [Errno 113] No route to host": "there is no route to the hub",
    "httpx.ConnectError: [Errno 111] Connection refused": "the connection to the hub broke",
    "something nobody has seen": "the download failed",
}


@pytest.mark.parametrize("line, cause", OUTPUT.items(), ids=OUTPUT.values())
def test_output_of_the_hub_client_becomes_a_cause_with_a_remedy_and_its_line(line: str, cause: str) -> None:
    error = fetch.download_error("org/name", f"Fetching 2 files\n{line}\n", 0)
    assert cause in error.diagnostic.message
    assert error.diagnostic.hint
    assert error.result.line == line


def test_a_line_number_of_a_traceback_is_not_a_status_of_the_hub() -> None:
    output = """Traceback (most recent call last):
  File "/usr/lib/python3.11/concurrent/futures/_base.py", line 401, in __get_result
    raise self._exception
httpx.ConnectTimeout: timed out
"""
    error = fetch.download_error("org/name", output, 0)
    assert error.diagnostic.location == "org/name"
    assert error.diagnostic.message == "the connection to the hub broke"
    assert error.result.line == "httpx.ConnectTimeout: timed out"


def test_incomplete_files_after_a_download_without_output_are_a_failure() -> None:
    assert "1 files are incomplete" in fetch.download_error("org/name", "", 1).diagnostic.message


def test_a_job_that_ended_without_a_result_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "is_going_on", lambda _: False)
    (tmp_path / "jobs" / "stage-1").mkdir(parents=True)
    spark: Any = SimpleNamespace(paths=Paths(state=tmp_path), monotonic=lambda: 0.0)
    (event,) = stage.follow(spark, "stage-1", 0, 0)
    assert event.result
    assert event.result["outcome"] == "lost"


def request(**parts: Any) -> StageRequest:
    return StageRequest.from_json({"version": 3, "id": "stage-1", "user": USER, **parts})


def test_a_secret_is_in_a_file_of_its_one_reader_and_not_in_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    monkeypatch.setattr(jobs, "is_going_on", lambda _: False)
    ran: list[list[str]] = []

    def run(argv: list[str], _: float) -> CommandResult:
        ran.append(argv)
        return CommandResult(0)

    monkeypatch.setattr(command, "run", run)
    stage.begin(request(hub_token="hf_canary", transfer_key="key_canary"), Paths(state=tmp_path))
    token = tmp_path / "run" / "stage-1.token"
    assert token.read_text() == "hf_canary"
    assert oct(token.stat().st_mode & 0o777) == "0o600"
    key = tmp_path / "run" / "stage-1.key"
    assert (key.read_text(), oct(key.stat().st_mode & 0o777)) == ("key_canary", "0o600")
    assert "canary" not in (tmp_path / "jobs" / "stage-1" / "request.json").read_text()
    assert "canary" not in str(ran)
    assert "canary" not in repr(request(hub_token="hf_canary", transfer_key="key_canary"))
    assert f"--property=ExecStopPost=/bin/rm -f {token} {key} {tmp_path / 'run'}/stage-1.request" in ran[0]


def test_a_token_whose_job_never_started_is_removed_by_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path)
    monkeypatch.setattr(jobs, "is_going_on", lambda job: job == "stage-2")
    for name, age in (("stage-1", 300), ("stage-2", 300), ("stage-3", 1)):
        path = tmp_path / f"{name}.token"
        path.write_text("hf_canary")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    jobs.sweep_secrets()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage-2.token", "stage-3.token"]


def test_a_job_that_systemd_does_not_start_leaves_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    monkeypatch.setattr(jobs, "is_going_on", lambda _: False)

    monkeypatch.setattr(command, "run", lambda *_, **__: CommandResult(1, err="no bus"))
    with pytest.raises(SparkfleetError, match="no bus") as failed:
        stage.begin(request(hub_token="hf_canary"), Paths(state=tmp_path))
    assert failed.value.diagnostic.code == "unit-failed"
    assert list((tmp_path / "run").iterdir()) == []


def test_a_job_without_work_succeeds_and_removes_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stage-1.token").write_text("hf_canary")
    folder = tmp_path / "jobs" / "stage-1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"id": "stage-1", "user": USER}))
    assert stage.run("stage-1", Paths(state=tmp_path)) == 0
    assert json.loads((folder / "result.json").read_text())["outcome"] == "staged"
    assert not (tmp_path / "run" / "stage-1.token").exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"id": 1}', '{"id": "stage-1", "version": 99}'])
def test_a_request_that_cannot_be_read_ends_its_job_with_the_file_and_the_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    folder = tmp_path / "jobs" / "stage-1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(text)
    assert stage.run("stage-1", Paths(state=tmp_path)) == 1
    result = json.loads((folder / "result.json").read_text())
    assert result["diagnostic"]["location"] == str(folder / "request.json")


@pytest.mark.parametrize("kind", ["images", "derived", "weights", "copies", "prune"])
def test_the_page_cache_is_dropped_after_a_fetch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    did: list[str] = []
    for name in ("pull", "fetch", "copy"):

        def step(*_: object, name: str = name) -> int:
            did.append(name)
            return 0

        monkeypatch.setattr(stage, name, step)
    monkeypatch.setattr(derive, "build", lambda order, *_: did.append(f"build {order.image}"))
    monkeypatch.setattr(stage, "prune", lambda *_: StageResult("staged"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stage-1.key").write_text("of a copy")
    folder = tmp_path / "jobs" / "stage-1"
    folder.mkdir(parents=True)
    model = {"repo": "org/name", "revision": "c", "models_dir": "/m", "files": []}
    parts: Any = {
        "images": ["img:1"],
        "derived": [{"image": "d", "base": "b", "install": [], "wheels": [], "labels": {}}],
        "weights": [model],
        "copies": [{**model, "sender": "spark-02", "listeners": []}],
        "prune": {"models_dir": "/m", "cache_dir": "/c", "records": {}, "containers": {}, "items": []},
    }[kind]
    (folder / "request.json").write_text(
        json.dumps({"version": 3, "id": "stage-1", "user": USER, kind: parts})
    )

    def drop_caches() -> str:
        did.append("valve")
        return "dropped the page cache: 9 MiB"

    assert stage.run("stage-1", Paths(state=tmp_path), drop_caches) == 0
    last = {"images": ["pull", "valve"], "weights": ["fetch", "valve"], "copies": ["copy", "valve"]}
    last["derived"] = ["build d", "valve"]
    assert did == last.get(kind, [])
    events = (folder / "events.jsonl").read_text()
    assert ("page cache: 9 MiB" in events) == (kind != "prune")


def model_of(tmp_path: Path, content: str) -> ModelDownload:
    """Return a model with one small file of that content, named as git names it."""
    name = hashlib.sha1(f"blob {len(content)}\0{content}".encode(), usedforsecurity=False).hexdigest()
    files = (ModelFile("config.json", len(content), name),)
    return ModelDownload("org/name", REVISION, str(tmp_path / "m"), files, "repo@sha256:1")


def root_of(model: ModelDownload) -> Path:
    return hub_cache.repository(model.models_dir, model.repo)


def hub_sends(images: FakeImages, model: ModelDownload, content: str) -> None:
    """Let the download put this content into the cache, whatever was requested."""

    class Download:
        returncode = 0

        def __init__(self, command: ImageCommand) -> None:
            assert command.image == model.image
            put(root_of(model), model.files[0], content)

        def communicate(self, **_: object) -> tuple[str, str]:
            return "", ""

    images.start_command = Download  # type: ignore[attr-defined]


def download(tmp_path: Path, model: ModelDownload) -> None:
    state = tmp_path / "state"
    (state / "jobs" / "stage-1").mkdir(parents=True, exist_ok=True)
    fetch.fetch(model, LOGIN, None, Journal(state / "jobs" / "stage-1", lambda: 0.0), state)


def test_a_download_is_hashed_and_recorded_as_verified_and_managed(
    tmp_path: Path, images: FakeImages
) -> None:
    model = model_of(tmp_path, "{}")
    hub_sends(images, model, "{}")
    download(tmp_path, model)
    (entry,) = hash_record.read(tmp_path / "state").values()
    assert entry.ok
    (record,) = fetch_record.read(tmp_path / "state").revisions.values()
    assert (record.repo, record.revision, record.bytes) == ("org/name", REVISION, 2)


def test_weights_are_fetched_on_a_spark_without_docker(
    tmp_path: Path, images: FakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.unavailable = "missing"
    model = replace(model_of(tmp_path, "{}"), image="", hub_client="")

    def start(*_: object) -> SimpleNamespace:
        put(root_of(model), model.files[0], "{}")
        return SimpleNamespace(returncode=0, communicate=lambda **_: ("", ""))

    monkeypatch.setattr(fetch, "_start", start)
    download(tmp_path, model)
    assert not hub_cache.wrong_files(root_of(model), REVISION, model.files)


def test_a_download_with_another_content_of_the_same_size_is_discarded(
    tmp_path: Path, images: FakeImages
) -> None:
    model = model_of(tmp_path, "{}")
    hub_sends(images, model, "[]")
    with pytest.raises(StageError, match="do not match the lock file"):
        download(tmp_path, model)
    root = root_of(model)
    assert not list((root / "blobs").iterdir())
    assert not os.path.lexists(root / "snapshots" / REVISION / "config.json")


@pytest.mark.provokes("lock-content-differs")
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"size": 5}, "config.json differs from fleet.lock: 2 bytes, not 5"),
        ({"blob": "f" * 40}, "config.json differs from fleet.lock: another content of the same size"),
    ],
)
def test_a_wrong_entry_of_the_lock_file_is_named_and_not_blamed_on_the_connection(
    tmp_path: Path, images: FakeImages, change: dict[str, Any], line: str
) -> None:
    model = model_of(tmp_path, "{}")
    hub_sends(images, model, "{}")
    locked = replace(model, files=(replace(model.files[0], **change),))
    with pytest.raises(StageError) as error:
        download(tmp_path, locked)
    found = error.value.diagnostic
    assert (found.location, found.code) == ("org/name", "lock-content-differs")
    assert "correct the entry in fleet.lock: sparkfleet lock INVENTORY --update org/name" in found.hint
    assert error.value.result.line == line


def test_a_revision_that_was_partly_present_stays_unmanaged(tmp_path: Path, images: FakeImages) -> None:
    model = model_of(tmp_path, "{}")
    theirs = root_of(model) / "snapshots" / REVISION
    theirs.mkdir(parents=True)
    hub_sends(images, model, "{}")
    download(tmp_path, model)
    assert fetch_record.read(tmp_path / "state").revisions == {}


def test_a_file_with_a_wrong_hash_is_fetched_again_although_its_size_is_right(
    tmp_path: Path, images: FakeImages
) -> None:
    model = model_of(tmp_path, "{}")
    root, state = root_of(model), tmp_path / "state"
    link = put(root, model.files[0], "[]")
    state.mkdir()
    assert hub_cache.wrong_files(root, REVISION, model.files, hash_record.read(state)) == []
    hash_record.check(state, [hash_record.FileToVerify(link, model.files[0].blob)], lambda _: None)
    assert hub_cache.wrong_files(root, REVISION, model.files, hash_record.read(state)) == list(model.files)
    hub_sends(images, model, "{}")
    download(tmp_path, model)
    assert link.read_text() == "{}"


def test_a_model_that_the_hub_refuses_ends_the_job_before_a_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    requests: list[tuple[str, ...]] = []

    def refuse(*argv: str) -> hub_access.Access:
        requests.append(argv)
        return hub_access.Access.NO_TOKEN

    monkeypatch.setattr(hub_access, "ask", refuse)
    monkeypatch.setattr(stage, "pull", lambda *_: pytest.fail("the image was pulled"))
    folder = tmp_path / "jobs" / "stage-1"
    folder.mkdir(parents=True)
    model = model_of(tmp_path, "{}")
    asking = StageRequest("stage-1", LOGIN, ("repo@sha256:1",), access_checks=(model,))
    (folder / "request.json").write_text(codec.dumps(asking))
    assert stage.run("stage-1", Paths(state=tmp_path)) == 1
    found = json.loads((folder / "result.json").read_text())["diagnostic"]
    assert found["message"].endswith("there is no token")
    assert found["code"] == "hub-refused"
    assert requests == [("", "org/name", REVISION, "config.json", "")]


def test_a_complete_model_needs_no_access_to_the_hub(tmp_path: Path) -> None:
    model = model_of(tmp_path, "{}")
    put(root_of(model), model.files[0], "{}")
    stage.check_access([model], tmp_path / "no-token")


def test_a_job_fetches_nothing_that_a_newer_versions_record_could_not_take(
    tmp_path: Path, images: FakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    state, model = tmp_path / "state", model_of(tmp_path, "{}")
    hub_sends(images, model, "{}")
    folder = state / "jobs" / "stage-1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(codec.dumps(replace(request(), weights=(model,))))
    record = state / "staged.json"
    record.write_text('{"version": 99}')
    assert stage.run("stage-1", Paths(state=state)) == 1
    result = StageResult.from_json(json.loads((folder / "result.json").read_text()))
    assert result.diagnostic is not None
    assert (result.diagnostic.location, result.diagnostic.code) == (str(record), codec.NEWER)
    assert result.diagnostic.hint == codec.NEWER_HINT
    assert not (root_of(model) / "snapshots").exists()
    assert record.read_text() == '{"version": 99}'
