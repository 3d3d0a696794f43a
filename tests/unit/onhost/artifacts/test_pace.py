"""A sender that sends a byte every 59 s ends no read by its timeout: the rate of a transfer has a limit.

The clock is that of the test: it goes on by 59 s with every byte that is sent.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract import hub_access
from sparkfleet.contract.hub_access import Access
from sparkfleet.contract.stage import HubDownloadRequest, LoginUser, ModelDownload, ModelFile, WheelFile
from sparkfleet.contract.transfer import FileToReceive
from sparkfleet.onhost.artifacts import pace
from sparkfleet.onhost.artifacts.copy import wire
from sparkfleet.onhost.artifacts.copy.receive import Listener, Receiver
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch, http_download, pull
from sparkfleet.onhost.artifacts.image import derive
from sparkfleet.onhost.state.journal import Journal
from tests.unit.onhost.artifacts.fake_images import FakeImages

SIZE, EVERY_S = 40_000_000, 59.0
USER = LoginUser("nvidia", 1000, 1000, "/home/nvidia")
FOUND = r"sent \d+ bytes of {} in \d+ s, 0\.0 KiB/s; at least 16 KiB/s are expected"


@dataclass
class Clock:
    """Seconds that go on when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "monotonic", made)
    monkeypatch.setattr(pace, "CHECK_S", 0.01)
    return made


@dataclass
class Dripping:
    """A server on loopback: what it says at once, then a byte every 59 s by the clock of the test."""

    clock: Clock
    begin: Callable[[socket.socket], None]
    address: tuple[str, int] = ("", 0)
    ended: threading.Event = field(default_factory=threading.Event)

    def serve(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while not self.ended.is_set():
                connection, _ = listening.accept()
                threading.Thread(target=self.drip, args=(connection,), daemon=True).start()

    def drip(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self.begin(connection)
            while not self.ended.wait(0.002):
                connection.sendall(b"x")
                self.clock.now += EVERY_S


@contextmanager
def dripping(clock: Clock, begin: Callable[[socket.socket], None]) -> Iterator[Dripping]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Dripping(clock, begin, listening.getsockname())
        threading.Thread(target=server.serve, args=(listening,), daemon=True).start()
        yield server
        server.ended.set()
        listening.shutdown(socket.SHUT_RDWR)


def in_headers(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")


def in_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)


HTTP = pytest.mark.parametrize("begin", [in_headers, in_body])


def model_of(home: Path, server: Dripping | None = None) -> ModelDownload:
    endpoint = "http://{}:{}".format(*server.address) if server else ""
    file = ModelFile("model.gguf", SIZE, "b" * 64)
    return ModelDownload("org/name", "c" * 40, str(home), (file,), endpoint=endpoint, hub_client="")


@HTTP
@pytest.mark.provokes("transfer-too-slow")
def test_a_hub_that_drips_does_not_hold_a_download(
    clock: Clock, tmp_path: Path, begin: Callable[[socket.socket], None]
) -> None:
    with dripping(clock, begin) as hub, pytest.raises(http_download.DownloadError) as error:
        http_download.download(HubDownloadRequest(model_of(tmp_path, hub)))
    assert error.match(r"127\.0\.0\.1:\d+ " + FOUND.format("model.gguf"))
    found = fetch.download_error("org/name", str(error.value), 1)
    assert (found.diagnostic.code, found.result.line) == ("transfer-too-slow", str(error.value))
    assert "run again" in found.diagnostic.hint


def test_what_has_arrived_before_is_kept(clock: Clock, tmp_path: Path) -> None:
    def begin(connection: socket.socket) -> None:
        in_body(connection)
        connection.sendall(b"y" * 3 * http_download.CHUNK)

    with dripping(clock, begin) as hub, pytest.raises(http_download.DownloadError):
        http_download.download(HubDownloadRequest(model_of(tmp_path, hub)))
    (partial,) = tmp_path.rglob("*.incomplete")
    assert partial.stat().st_size >= 3 * http_download.CHUNK


@HTTP
def test_a_package_index_that_drips_does_not_hold_a_build(
    clock: Clock, tmp_path: Path, begin: Callable[[socket.socket], None]
) -> None:
    (tmp_path / "job").mkdir()
    journal = Journal(tmp_path / "job", time.time)
    with dripping(clock, begin) as index:
        wheel = WheelFile("ray-2.whl", "http://{}:{}/ray-2.whl".format(*index.address), "a" * 64, SIZE)
        with pytest.raises(StageError) as error:
            derive.download_wheels((wheel,), tmp_path, journal)
    found = error.value.diagnostic
    assert (found.location, found.code) == ("ray-2.whl", "transfer-too-slow")
    assert error.match(r"127\.0\.0\.1:\d+ " + FOUND.format(r"ray-2\.whl"))
    assert (
        f"check the network between this Spark and 127.0.0.1:{index.address[1]}, then run again" in found.hint
    )


def test_a_hub_client_that_writes_nothing_is_ended_with_its_instance(
    clock: Clock, tmp_path: Path, images: FakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def communicate(timeout: float) -> Any:
        clock.now += 60
        raise subprocess.TimeoutExpired("hf", timeout)

    def kill() -> None:
        calls.append("kill")

    def start(*_: object) -> SimpleNamespace:
        calls.append("start")
        return SimpleNamespace(communicate=communicate, kill=kill)

    monkeypatch.setattr(fetch, "_start", start)
    monkeypatch.setattr(images, "remove_instances", lambda *_: calls.append("remove"), raising=False)
    (tmp_path / "job").mkdir()
    (tmp_path / "state").mkdir()
    with pytest.raises(StageError) as error:
        fetch.fetch(model_of(tmp_path), USER, None, Journal(tmp_path / "job", time.time), tmp_path / "state")
    assert error.match(r"huggingface\.co " + FOUND.format("org/name"))
    assert error.value.diagnostic.code == "transfer-too-slow"
    assert calls == ["remove", "start", "kill", "remove"]


def test_a_registry_that_drips_does_not_hold_a_pull(
    clock: Clock, tmp_path: Path, images: FakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dripped(_name: str, _credential: object, on_progress: Callable[[int, int], None]) -> int:
        have = 0
        while True:
            clock.now += EVERY_S
            have += 1
            on_progress(have, SIZE)

    monkeypatch.setattr(images, "pull", dripped)
    (tmp_path / "job").mkdir()
    with pytest.raises(StageError) as error:
        pull.pull_as("nvcr.io/x@sha256:1", "nvcr.io/x@sha256:1", None, Journal(tmp_path / "job", time.time))
    assert error.match(r"image nvcr\.io/x: nvcr\.io " + FOUND.format("nvcr.io/x"))
    assert error.value.diagnostic.code == "transfer-too-slow"


def receiver(server: Dripping, folder: Path) -> Receiver:
    file = FileToReceive(0, SIZE, "b" * 64, str(folder / "blob"), "model.safetensors")
    return Receiver("spark-01", [Listener(0, *server.address)], "key", [file], pause_s=0.01)


def test_a_spark_that_drips_does_not_hold_a_copy(clock: Clock, tmp_path: Path) -> None:
    def begin(connection: socket.socket) -> None:
        assert wire.authenticate(connection, "key")
        wire.read_exactly(connection, wire.REQUEST.size)
        connection.sendall(wire.LENGTH.pack(SIZE))

    with dripping(clock, begin) as sender:
        copied = receiver(sender, tmp_path)

        def on_progress() -> None:
            if copied._ended.is_set():
                sender.ended.set()  # a read ends with the connection, not only after ``SILENT_S``

        with pytest.raises(StageError) as error:
            copied.run(on_progress, every_s=0.01)
    assert error.match(r"spark-01 " + FOUND.format("1 files"))
    assert (error.value.diagnostic.code, error.value.result.source_failed) == ("transfer-too-slow", True)


def test_a_hub_that_drips_its_headers_does_not_hold_a_check_of_access(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_access, "TIMEOUT_S", 0.1)
    with dripping(clock, in_headers) as hub:
        endpoint = "http://{}:{}".format(*hub.address)
        assert hub_access.ask(endpoint, "org/name", "main", "config.json", "") is Access.UNKNOWN


@pytest.mark.parametrize("window_s", [pace.WINDOW_S, pace.HUB_CLIENT_WINDOW_S])
def test_a_slow_line_is_not_ended_for_as_long_as_it_takes(clock: Clock, window_s: float) -> None:
    judged = pace.Pace("hub", "file", window_s)
    for minute in range(1, 10_000):
        clock.now += 60
        judged.check(minute * 60 * pace.LEAST_RATE)


@pytest.mark.parametrize("before", [0, 10**12], ids=["from the start", "after a fast part"])
def test_a_transfer_ends_within_two_windows_of_becoming_slow(clock: Clock, before: int) -> None:
    judged = pace.Pace("hub", "file")
    judged.check(before)
    began = clock.now

    def drip() -> None:
        for have in range(before, before + 1000):
            clock.now += EVERY_S
            judged.check(have)

    with pytest.raises(pace.TooSlowError):
        drip()
    assert pace.WINDOW_S <= clock.now - began <= 2 * (pace.WINDOW_S + EVERY_S)


def test_the_error_of_a_transfer_is_that_of_the_transfer(clock: Clock) -> None:
    def transfer(_: object) -> None:
        raise TimeoutError("timed out")

    with pytest.raises(TimeoutError, match="timed out"):
        pace.run(pace.Pace("hub", "file"), transfer)
    assert pace.run(pace.Pace("hub", "file"), lambda _: 7) == 7
