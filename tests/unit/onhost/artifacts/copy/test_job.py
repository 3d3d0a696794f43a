"""A copy of a model as a job: a request in, reports out, a complete snapshot, and the records of it."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.stage import LoginUser, ModelCopy, ModelFile, SenderPlace
from sparkfleet.contract.transfer import ReceiveReport, ReceiveRequest, SentFile
from sparkfleet.onhost.artifacts.copy import job
from sparkfleet.onhost.artifacts.copy.send import Sender
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record, hash_record, hub_cache
from sparkfleet.onhost.state.journal import Journal

KEY, REVISION = "t0ken", "a" * 40
CONTENT = {"config.json": b"{}\n", "model.safetensors": b"weights" * 1000}
USER = LoginUser("nvidia", 1000, 1000, "/home/nvidia")


def model_files() -> tuple[ModelFile, ...]:
    return tuple(
        ModelFile(name, len(body), hashlib.sha256(body).hexdigest(), number)
        for number, (name, body) in enumerate(CONTENT.items())
    )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[SenderPlace]:
    """A sender of the model's files."""
    paths = [tmp_path / "from" / name for name in CONTENT]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT[path.name])
    files = tuple(SentFile(str(path), path.stat().st_size) for path in paths)
    sender = Sender(files, frozenset({"127.0.0.1"}), KEY, idle_s=20)
    ((address, port),) = sender.listen(["127.0.0.1"])
    thread = threading.Thread(target=sender.serve, daemon=True)
    thread.start()
    yield SenderPlace("spark-01", ((0, address, port),))
    sender._over.set()
    thread.join()


Child = Callable[[str], tuple[int, list[ReceiveReport]]]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Child:
    """Run the child's program in this process; return its exit code and its reports."""

    def run(stdin: str) -> tuple[int, list[ReceiveReport]]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = job.receive()
        return code, [codec.loads(ReceiveReport, line) for line in capsys.readouterr().out.splitlines()]

    return run


def request(tmp_path: Path, place: SenderPlace, key: str = KEY) -> ReceiveRequest:
    root = hub_cache.repository(str(tmp_path / "to"), "org/name")
    files = model_files()
    return ReceiveRequest(
        place,
        tuple(job.file_to_receive(root, file) for file in files),
        tuple(job.snapshot_link(root, REVISION, file) for file in files),
        key,
    )


def test_the_last_report_has_every_file_as_it_was_received(
    child: Child, tmp_path: Path, place: SenderPlace
) -> None:
    requested = request(tmp_path, place)
    code, reports = child(codec.dumps(requested))
    total = sum(map(len, CONTENT.values()))
    assert code == 0
    assert (reports[-1].have, reports[-1].fetched, reports[-1].failure) == (total, total, None)
    assert {path: entry.blob for path, entry in reports[-1].received.items()} == {
        file.target: file.blob for file in requested.files
    }
    for link, body in zip(requested.links, CONTENT.values(), strict=True):
        path = Path(link.path)
        assert path.read_bytes() == body
        assert not path.readlink().is_absolute()


def test_a_failure_is_the_last_report_and_names_the_source(
    child: Child, tmp_path: Path, place: SenderPlace
) -> None:
    (tmp_path / "from" / "config.json").write_bytes(b"[]\n")
    code, reports = child(codec.dumps(request(tmp_path, place)))
    assert code == 1
    failure = reports[-1].failure
    assert failure is not None
    error = StageError.of(failure)
    assert "config.json: the copy of spark-01 does not match the lock file" in str(error)
    assert error.result.source_failed


def test_a_request_of_another_shape_is_refused(child: Child) -> None:
    with pytest.raises(ContractError, match="files: is missing"):
        child(json.dumps({"version": 1, "sender": {"sender": "spark-01", "listeners": []}}))


@pytest.fixture
def copy(
    tmp_path: Path, place: SenderPlace, monkeypatch: pytest.MonkeyPatch, child: Child
) -> Callable[[], None]:
    """Copy the model in a job, with the child in this process."""
    (tmp_path / "job").mkdir()

    def receive(
        request: ReceiveRequest, user: LoginUser, on_progress: Callable[[int], None]
    ) -> ReceiveReport:
        assert (user, request.transfer_key) == (USER, KEY)
        _, reports = child(codec.dumps(request))
        on_progress(reports[-1].have)
        return reports[-1]

    monkeypatch.setattr(job, "receive_in_child", receive)
    order = ModelCopy(
        place.sender, place.listeners, "org/name", REVISION, str(tmp_path / "to"), model_files()
    )
    return lambda: job.copy(order, USER, KEY, Journal(tmp_path / "job", time.time), tmp_path)


def test_a_copied_model_is_complete_verified_and_managed(copy: Callable[[], None], tmp_path: Path) -> None:
    copy()
    root = hub_cache.repository(str(tmp_path / "to"), "org/name")
    assert hub_cache.wrong_files(root, REVISION, model_files()) == []
    assert all(entry.ok for entry in hash_record.read(tmp_path).values())
    assert len(hash_record.read(tmp_path)) == len(CONTENT)
    assert list(fetch_record.read(tmp_path).revisions) == [str(root / "snapshots" / REVISION)]
    log = (tmp_path / "job" / "events.jsonl").read_text()
    assert "org/name is complete" in log
    copy()  # nothing is missing
    assert (tmp_path / "job" / "events.jsonl").read_text() == log


def test_a_model_that_is_incomplete_after_the_copy_is_a_failure(
    copy: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "link", lambda _: None)
    with pytest.raises(StageError, match="2 files are incomplete after the copy"):
        copy()
