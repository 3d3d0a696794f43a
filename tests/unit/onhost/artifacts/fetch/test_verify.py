"""Hashing on request: what is there with its size is read once; what is another content is named."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import command
from sparkfleet.contract.stage import ModelFile, ModelFiles, StageResult, VerifyRequest
from sparkfleet.onhost.artifacts.fetch import hash_record, verify
from sparkfleet.onhost.state.journal import Journal

REVISION = "1" * 40
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights"}


def blob_of(name: str) -> str:
    """Return the hub's name of a content: git's for small files, SHA-256 for weights."""
    content = CONTENT[name]
    if name == "config.json":
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Spark whose model is whole."""
    monkeypatch.setattr(verify, "_lower_priority", lambda: None)
    root = tmp_path / "vllm" / "hub" / "models--org--a"
    for name, content in CONTENT.items():
        link = root / "snapshots" / REVISION / name
        for path in (link, root / "blobs" / "x"):
            path.parent.mkdir(parents=True, exist_ok=True)
        (root / "blobs" / blob_of(name)).write_bytes(content)
        link.symlink_to(f"../../blobs/{blob_of(name)}")
    (tmp_path / "state" / "jobs" / "1").mkdir(parents=True)
    return tmp_path / "state"


def run(state: Path, *, rehash: bool = False) -> StageResult:
    files = [ModelFile(name, len(CONTENT[name]), blob_of(name)) for name in CONTENT]
    repository = ModelFiles("org/a", REVISION, (*files, ModelFile("x", 1, "")))
    request = VerifyRequest(str(state.parent / "vllm"), (repository,), rehash)
    return verify.verify(request, state, Journal(state / "jobs" / "1", lambda: 0.0))


def weights(state: Path) -> Path:
    return state.parent / "vllm" / "hub" / "models--org--a" / "blobs" / blob_of("model.safetensors")


def test_whole_files_are_hashed_by_git_or_sha256_and_once(state: Path) -> None:
    assert run(state) == StageResult("staged", text="2 files hashed")
    assert run(state).text == "0 files hashed"
    assert run(state, rehash=True).text == "2 files hashed"


def test_another_content_of_the_same_size_is_named_and_asked_again_every_time(state: Path) -> None:
    weights(state).write_bytes(b"WEIGHTS")
    for _ in range(2):
        result = run(state)
        assert result.changed == {f"org/a@{REVISION}": ("model.safetensors",)}


def test_rot_that_leaves_no_trace_is_found_when_all_is_read_again(state: Path) -> None:
    run(state)
    info = weights(state).stat()
    weights(state).write_bytes(b"WEIGHTS")
    os.utime(weights(state), ns=(info.st_atime_ns, info.st_mtime_ns))
    assert run(state).changed == {}
    assert run(state, rehash=True).changed == {f"org/a@{REVISION}": ("model.safetensors",)}


def test_what_is_partial_is_not_read(state: Path) -> None:
    weights(state).write_bytes(b"wei")
    assert run(state).text == "1 files hashed"


def test_it_tells_how_far_it_is(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = threading.Event()
    check = hash_record.check

    def slow(*argv: Any) -> Any:
        assert reported.wait(10)
        return check(*argv)

    class RecordingJournal(Journal):
        def log(self, kind: str, text: str, **data: Any) -> None:
            super().log(kind, text, **data)
            reported.set()

    monkeypatch.setattr(hash_record, "check", slow)
    monkeypatch.setattr(verify, "PROGRESS_EVERY_S", 0.01)
    to_verify = [hash_record.FileToVerify(weights(state), blob_of("model.safetensors"))]
    to_verify.append(hash_record.FileToVerify(state / "gone", "x"))
    journal = RecordingJournal(state / "jobs" / "1", lambda: 0.0)
    assert verify.hash_files(state, to_verify, journal, "org/a") == to_verify[1:]
    events = [json.loads(line) for line in (state / "jobs" / "1" / "events.jsonl").read_text().splitlines()]
    assert {event["total"] for event in events} == {len(CONTENT["model.safetensors"])}


def test_it_takes_only_what_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(os, "nice", calls.append)
    monkeypatch.setattr(command, "run", lambda argv, _: calls.append(argv[:3]))
    verify._lower_priority()
    assert calls == [19, ["ionice", "-c", "3"]]
