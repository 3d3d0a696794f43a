"""Fetching: what is whole stays, what is broken goes first, what the hub says becomes cause and remedy."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import hub_access
from sparkfleet.contract.stage import StageRequest
from sparkfleet.onhost.artifacts import stage
from sparkfleet.onhost.artifacts.fetch import fetch, hub_cache, pull, staged, verified
from sparkfleet.onhost.artifacts.image import derive
from sparkfleet.onhost.machine import jobs
from sparkfleet.onhost.machine.system import Paths
from sparkfleet.onhost.prune import prune
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine
from tests.unit.onhost.artifacts.fetch.cache_of_test import REVISION, put

WANTED = [
    {"path": "config.json", "size": 5, "blob": "c1"},
    {"path": "sub/model.safetensors", "size": 8, "blob": "w1"},
]
USER = {"name": "nvidia", "uid": os.getuid(), "gid": os.getgid(), "home": "/home/nvidia"}


def words(token: Path | None = None, endpoint: str = "") -> list[str]:
    weights = {
        "image": "repo@sha256:1", "repo": "org/name", "revision": REVISION,
        "models_dir": "/m", "endpoint": endpoint,
    }  # fmt: skip
    return fetch.download_argv(weights, ["config.json"], USER, token, "stage-1")


def test_the_download_runs_in_the_pinned_image_as_the_login_user_for_the_named_files_alone() -> None:
    said = words()
    assert said[said.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert said[said.index("--entrypoint") :] == [
        "--entrypoint", "hf", "repo@sha256:1", "download", "org/name", "config.json", "--revision", REVISION,
    ]  # fmt: skip
    assert "HF_ENDPOINT" not in " ".join(said)


def test_the_token_is_a_mounted_file_and_never_a_word() -> None:
    said = " ".join(words(Path("/run/sparkfleet/stage-1.token"), "http://hub"))
    assert "source=/run/sparkfleet/stage-1.token,target=/run/secrets/hf-token,readonly" in said
    assert "HF_TOKEN_PATH=/run/secrets/hf-token" in said
    assert "HF_ENDPOINT=http://hub" in said


SAID = {
    "GatedRepoError: 403 Client Error. Access to model org/name is restricted": "the model is gated",
    "401 Client Error: Unauthorized for url": "wants a token",
    "403 Forbidden": "refuses this token",
    "RepositoryNotFoundError: 404": "does not know this model",
    "RevisionNotFoundError: 404": "does not know this commit",
    "EntryNotFoundError: 404": "does not have a file",
    "429 Too Many Requests": "limits the rate",
    "OSError: [Errno 28] No space left on device": "the disk is full",
    "Name or service not known": "name cannot be resolved",
    "httpx.ConnectError: [Errno 113] No route to host": "no way leads to the hub",
    "httpx.ConnectError: [Errno 111] Connection refused": "the connection to the hub broke",
    "something nobody has seen": "the download failed",
}


@pytest.mark.parametrize("line, cause", SAID.items(), ids=SAID.values())
def test_what_the_hub_says_becomes_a_cause_with_a_remedy_and_the_line_itself(line: str, cause: str) -> None:
    result = fetch.download_error("org/name", f"Fetching 2 files\n{line}\n", []).result
    assert cause in result["cause"]
    assert result["remedy"]
    assert result["line"] == line


def test_the_line_of_a_program_is_no_answer_of_the_hub() -> None:
    said = """Traceback (most recent call last):
  File "/usr/lib/python3.11/concurrent/futures/_base.py", line 401, in __get_result
    raise self._exception
httpx.ConnectTimeout: timed out
"""
    result = fetch.download_error("org/name", said, []).result
    assert result["cause"] == "org/name: the connection to the hub broke"
    assert result["line"] == "httpx.ConnectTimeout: timed out"


def test_files_that_are_not_whole_after_a_silent_download_are_a_failure() -> None:
    assert "1 files are not whole" in fetch.download_error("org/name", "", [WANTED[0]]).result["cause"]


PULLS = {
    "unauthorized: authentication required": "docker login nvcr.io",
    "manifest unknown": "lock --update",
    "no space left on device": "docker image prune",
    "connection reset": "whole layers are kept",
}


@pytest.mark.parametrize("diagnostic, remedy", PULLS.items(), ids=PULLS)
def test_each_failed_pull_has_its_next_command(diagnostic: str, remedy: str) -> None:
    assert remedy in pull.remedy_for(diagnostic, "nvcr.io/nvidia/vllm")


def test_credentials_come_from_the_login_users_docker_config(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    auth = base64.b64encode(b"$oauthtoken:key").decode()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {"nvcr.io": {"auth": auth}}}))
    header = json.loads(base64.urlsafe_b64decode(pull.credentials("nvcr.io/nvidia/vllm", tmp_path)))
    assert header == {"username": "$oauthtoken", "password": "key", "serveraddress": "nvcr.io"}
    assert pull.credentials("ghcr.io/x/y", tmp_path) == ""


def test_credentials_that_a_helper_keeps_are_asked_from_it_and_without_any_none_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-keep"
    helper.write_text(
        '#!/bin/sh\nread server; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"of $server\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / ".docker").mkdir()
    config = tmp_path / ".docker" / "config.json"
    config.write_text(json.dumps({"credHelpers": {"nvcr.io": "keep"}}))
    header = json.loads(base64.urlsafe_b64decode(pull.credentials("nvcr.io/nvidia/vllm", tmp_path)))
    assert header == {"username": "u", "password": "of nvcr.io", "serveraddress": "nvcr.io"}
    config.write_text(json.dumps({"credHelpers": {"nvcr.io": "no-such-helper"}}))
    assert pull.credentials("nvcr.io/nvidia/vllm", tmp_path) == ""


def test_a_job_that_ended_without_a_word_is_told_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "is_going_on", lambda _: False)
    (tmp_path / "jobs" / "stage-1").mkdir(parents=True)
    assert stage.follow("stage-1", Paths(state=tmp_path), 0, 0.2) == 0
    assert json.loads(capsys.readouterr().out)["result"]["outcome"] == "lost"


def request(**parts: Any) -> StageRequest:
    return StageRequest.from_json({"version": 2, "id": "stage-1", "user": USER, **parts})


def test_a_token_is_kept_in_a_file_of_its_one_reader_and_not_in_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    monkeypatch.setattr(jobs, "is_going_on", lambda _: False)
    ran: list[list[str]] = []

    class Done:
        returncode, stderr = 0, ""

    def run(words: list[str], **_: object) -> Done:
        ran.append(words)
        return Done()

    monkeypatch.setattr(subprocess, "run", run)
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


def test_a_token_whose_job_never_began_is_swept_away_by_the_next_and_others_stay(
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

    class Done:
        returncode, stderr = 1, "no bus"

    monkeypatch.setattr(subprocess, "run", lambda *_, **__: Done())
    with pytest.raises(OSError, match="no bus"):
        stage.begin(request(hub_token="hf_canary"), Paths(state=tmp_path))
    assert list((tmp_path / "run").iterdir()) == []


def test_a_job_without_work_ends_staged_and_takes_its_token_away(
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
    assert str(folder / "request.json") in json.loads((folder / "result.json").read_text())["cause"]


@pytest.mark.parametrize("kind", ["images", "derived", "weights", "copies", "prune"])
def test_the_page_cache_is_given_back_after_all_that_was_brought_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    did: list[str] = []
    for name in ("pull", "fetch", "copy"):

        def step(*_: object, name: str = name) -> int:
            did.append(name)
            return 0

        monkeypatch.setattr(stage, name, step)
    monkeypatch.setattr(derive, "build", lambda order, *_: did.append(f"build {order['image']}"))
    monkeypatch.setattr(prune, "carry_out", lambda *_: {"outcome": "pruned"})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stage-1.key").write_text("of a copy")
    folder = tmp_path / "jobs" / "stage-1"
    folder.mkdir(parents=True)
    model = {"repo": "org/name", "revision": "c", "models_dir": "/m", "files": []}
    asked = {
        "images": ["img:1"],
        "derived": [{"image": "d", "base": "b", "install": [], "wheels": [], "labels": {}}],
        "weights": [model],
        "copies": [{**model, "sender": "spark-02", "listeners": []}],
        "prune": {"models_dir": "/m", "cache_dir": "/c", "books": {}, "containers": {}, "items": []},
    }[kind]
    (folder / "request.json").write_text(json.dumps({"id": "stage-1", "user": USER, kind: asked}))

    def give_back() -> str:
        did.append("valve")
        return "dropped the page cache: 9 MiB"

    assert stage.run("stage-1", Paths(state=tmp_path), give_back) == 0
    last = {"images": ["pull", "valve"], "weights": ["fetch", "valve"], "copies": ["copy", "valve"]}
    last["derived"] = ["build d", "valve"]
    assert did == last.get(kind, [])
    told = (folder / "events.jsonl").read_text()
    assert ("page cache: 9 MiB" in told) == (kind != "prune")


def weights_of(tmp_path: Path, content: str) -> dict[str, Any]:
    """Return a request for one small file of that content, named as git names it."""
    name = hashlib.sha1(f"blob {len(content)}\0{content}".encode(), usedforsecurity=False).hexdigest()
    return {
        "image": "repo@sha256:1", "repo": "org/name", "revision": REVISION, "models_dir": str(tmp_path / "m"),
        "endpoint": "", "files": [{"path": "config.json", "size": len(content), "blob": name}],
    }  # fmt: skip


def a_hub_that_sends(monkeypatch: pytest.MonkeyPatch, weights: dict[str, Any], content: str) -> None:
    """Let the download put this content into the cache, whatever was asked for."""

    class Download:
        returncode = 0

        def __init__(self, *_: object, **__: object) -> None:
            put(hub_cache.repository(weights["models_dir"], "org/name"), weights["files"][0], content)

        def communicate(self, **_: object) -> tuple[str, str]:
            return "", ""

    monkeypatch.setattr(subprocess, "Popen", Download)
    monkeypatch.setattr(DockerEngine, "name_of", lambda _, reference: reference)
    monkeypatch.setattr(fetch, "_stop_leftovers", lambda: None)


def carry_out(tmp_path: Path, weights: dict[str, Any]) -> None:
    state = tmp_path / "state"
    (state / "jobs" / "stage-1").mkdir(parents=True, exist_ok=True)
    fetch.fetch(weights, USER, None, Journal(state / "jobs" / "stage-1", lambda: 0.0), state)


def test_what_arrives_is_hashed_and_remembered_as_right_and_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(tmp_path, "{}")
    a_hub_that_sends(monkeypatch, weights, "{}")
    carry_out(tmp_path, weights)
    (entry,) = verified.read(tmp_path / "state").values()
    assert entry.ok
    (record,) = staged.read(tmp_path / "state").revisions.values()
    assert (record.repo, record.revision, record.bytes) == ("org/name", REVISION, 2)


def test_what_arrives_with_another_content_of_the_same_size_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(tmp_path, "{}")
    a_hub_that_sends(monkeypatch, weights, "[]")
    with pytest.raises(pull.StageError, match="another content than the locked one"):
        carry_out(tmp_path, weights)
    root = hub_cache.repository(weights["models_dir"], "org/name")
    assert not list((root / "blobs").iterdir())
    assert not os.path.lexists(root / "snapshots" / REVISION / "config.json")


def test_a_revision_of_which_something_was_there_before_stays_its_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(tmp_path, "{}")
    theirs = hub_cache.repository(weights["models_dir"], "org/name") / "snapshots" / REVISION
    theirs.mkdir(parents=True)
    a_hub_that_sends(monkeypatch, weights, "{}")
    carry_out(tmp_path, weights)
    assert staged.read(tmp_path / "state").revisions == {}


def test_a_file_whose_hash_was_found_wrong_is_fetched_again_whatever_its_size_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(tmp_path, "{}")
    root, state = hub_cache.repository(weights["models_dir"], "org/name"), tmp_path / "state"
    link = put(root, weights["files"][0], "[]")
    state.mkdir()
    assert hub_cache.wrong_files(root, REVISION, weights["files"], verified.read(state)) == []
    verified.check(state, [verified.FileToVerify(link, weights["files"][0]["blob"])], lambda _: None)
    assert hub_cache.wrong_files(root, REVISION, weights["files"], verified.read(state)) == weights["files"]
    a_hub_that_sends(monkeypatch, weights, "{}")
    carry_out(tmp_path, weights)
    assert link.read_text() == "{}"


def test_a_model_that_the_hub_will_not_give_ends_the_job_before_anything_is_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path / "run")
    asked: list[tuple[str, ...]] = []

    def refuse(*words: str) -> hub_access.Access:
        asked.append(words)
        return hub_access.Access.NO_TOKEN

    monkeypatch.setattr(hub_access, "ask", refuse)
    monkeypatch.setattr(stage, "pull", lambda *_: pytest.fail("the image was pulled"))
    folder = tmp_path / "jobs" / "stage-1"
    folder.mkdir(parents=True)
    weights = weights_of(tmp_path, "{}")
    asking = {"id": "stage-1", "user": USER, "images": ["repo@sha256:1"], "ask": [weights]}
    (folder / "request.json").write_text(json.dumps(asking))
    assert stage.run("stage-1", Paths(state=tmp_path)) == 1
    assert json.loads((folder / "result.json").read_text())["cause"].endswith("there is no token")
    assert asked == [("", "org/name", REVISION, "config.json", "")]


def test_a_model_whose_files_are_here_needs_no_answer_of_the_hub(tmp_path: Path) -> None:
    weights = weights_of(tmp_path, "{}")
    put(hub_cache.repository(weights["models_dir"], "org/name"), weights["files"][0], "{}")
    stage.may_read([weights], tmp_path / "no-token")
