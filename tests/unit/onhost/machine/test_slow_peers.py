"""Reads that end although the other side goes on: an engine or a rank that drips, or that never stops."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from sparkfleet.contract.generation import Gate as GateSettings
from sparkfleet.onhost.gate import gate
from sparkfleet.onhost.gate.failure import StartFailedError
from sparkfleet.onhost.machine import wire
from sparkfleet.onhost.machine.host import RESPONSE_LIMIT, Spark
from sparkfleet.onhost.machine.system import HttpRequest
from tests.unit.onhost.world import generation

HOME = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\n"
Serve = Callable[[Iterable[bytes]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a server that sends parts to each connection; it waits a moment after a part of one byte."""
    listeners: list[socket.socket] = []
    over = threading.Event()

    def send(connection: socket.socket, parts: Iterable[bytes]) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            for part in parts:
                if over.is_set():
                    return
                connection.sendall(part)
                if len(part) == 1:
                    time.sleep(0.02)

    def accept(listener: socket.socket, parts: list[Iterable[bytes]]) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=send, args=(connection, parts[0]), daemon=True).start()

    def start(parts: Iterable[bytes]) -> int:
        listener = socket.create_server((HOME, 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, [parts]), daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    over.set()
    for listener in listeners:
        listener.close()


def endless(part: bytes) -> Iterator[bytes]:
    return itertools.repeat(part)


DRIPPED = {
    "status line": endless(b"H"),
    "header": itertools.chain([OK, b"X: "], endless(b"x")),
    "many interim responses": itertools.chain([b"HTTP/1.1 100 Continue\r\n"], endless(b"X")),
    "body": itertools.chain([OK, b"\r\n"], endless(b"x")),
    "announced body": itertools.chain([OK, b"Content-Length: 100000\r\n\r\n"], endless(b"x")),
    "chunk": itertools.chain([OK, b"Transfer-Encoding: chunked\r\n\r\nffff\r\n"], endless(b"x")),
}


@pytest.mark.parametrize("parts", DRIPPED.values(), ids=DRIPPED)
def test_an_engine_that_drips_bytes_does_not_hold_a_request_beyond_its_time(
    serve: Serve, parts: Iterable[bytes]
) -> None:
    response = Spark().http(HttpRequest(serve(parts), "GET", "/", 0.3))
    assert (response.status, response.timed_out, response.error) == (0, True, "no answer within 0.3 s")


@pytest.mark.parametrize("parts", DRIPPED.values(), ids=DRIPPED)
def test_an_engine_that_drips_bytes_does_not_hold_the_gate_beyond_its_timeout(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, parts: Iterable[bytes]
) -> None:
    monkeypatch.setattr(gate, "QUICK_S", 0.2)
    candidate = replace(generation(), port=serve(parts), gate=GateSettings(timeout_s=1))
    with pytest.raises(StartFailedError) as error:
        gate.Gate(Spark(), candidate, lambda: None).prove()
    assert error.value.failure.diagnostic.code == "gate-not-ready"


LARGE = {
    "until the end of the connection": OK + b"\r\n",
    "of an announced length": OK + b"Content-Length: 1000000000000\r\n\r\n",
}


@pytest.mark.parametrize("head", LARGE.values(), ids=LARGE)
def test_an_answer_without_an_end_is_cut_off_at_the_limit(serve: Serve, head: bytes) -> None:
    port = serve(itertools.chain([head], endless(b"x" * 65536)))
    response = Spark().http(HttpRequest(port, "GET", "/", 50))
    assert (response.status, response.body) == (0, "")
    assert response.error == f"the response is longer than {RESPONSE_LIMIT >> 20} MiB"


def test_an_answer_in_chunks_without_an_end_is_cut_off_at_the_limit(serve: Serve) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    port = serve(itertools.chain([OK, b"Transfer-Encoding: chunked\r\n\r\n"], endless(chunk)))
    assert "longer than" in Spark().http(HttpRequest(port, "GET", "/", 50)).error


def test_an_answer_that_ends_in_time_and_within_the_limit_is_whole(serve: Serve) -> None:
    body = b"x" * (RESPONSE_LIMIT - 1)
    port = serve([OK, b"Content-Length: %d\r\n\r\n" % len(body), body])
    response = Spark().http(HttpRequest(port, "GET", "/", 50))
    assert (response.status, len(response.body)) == (200, len(body))


def test_a_rank_that_drips_bytes_counts_as_one_that_does_not_answer(serve: Serve) -> None:
    assert wire.ask(HOME, serve(endless(b" ")), {}, 0.3) is None


def test_a_rank_that_answers_with_a_line_without_an_end_counts_as_one_that_does_not_answer(
    serve: Serve,
) -> None:
    assert wire.ask(HOME, serve(endless(b"x" * 65536)), {}, 50) is None


def test_an_answer_of_endless_depth_is_none(serve: Serve) -> None:
    assert wire.ask(HOME, serve([b"[" * 60_000 + b"\n"]), {}, 5) is None


def test_a_client_that_drips_bytes_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PATIENCE_S", 0.3)
    with socket.create_server((HOME, 0)) as free:
        port = int(free.getsockname()[1])
    stop = wire.listen(HOME, port, lambda message: message)
    hung_up = False
    try:
        with socket.create_connection((HOME, port), 30) as connection:
            while not hung_up:
                try:
                    connection.sendall(b" ")
                except OSError:
                    hung_up = True
                time.sleep(0.02)
    finally:
        stop()
    assert hung_up
