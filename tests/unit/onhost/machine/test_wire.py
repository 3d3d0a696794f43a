"""One line there, one line back, over real sockets of this machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sparkfleet.onhost.machine import wire

HOME = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as one:
        one.bind((HOME, 0))
        return int(one.getsockname()[1])


@pytest.fixture
def port() -> Iterator[int]:
    """A port that answers with what it was asked."""
    number = free_port()
    stop = wire.listen(HOME, number, lambda message: {"heard": message})
    yield number
    stop()


def test_a_question_is_answered(port: int) -> None:
    assert wire.ask(HOME, port, {"rank": 1}, 5) == {"heard": {"rank": 1}}


def test_without_a_listener_there_is_no_answer() -> None:
    assert wire.ask(HOME, free_port(), {}, 5) is None


def test_after_its_end_the_port_is_free_again() -> None:
    number = free_port()
    for text in ("first", "second"):

        def response(_: object, text: str = text) -> dict[str, str]:
            return {"text": text}

        stop = wire.listen(HOME, number, response)
        assert wire.ask(HOME, number, {}, 5) == {"text": text}
        stop()
    assert wire.ask(HOME, number, {}, 5) is None


def test_an_address_that_is_not_here_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        wire.listen("192.0.2.1", free_port(), lambda message: message)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b"[1]\n", b"\xff\n", b"x" * (wire.LONGEST + 9), b""])
def test_what_is_not_understood_gets_no_answer_and_does_no_harm(port: int, line: bytes) -> None:
    # It may hang up before it has read all of it.
    with contextlib.suppress(OSError), socket.create_connection((HOME, port), 5) as connection:
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""
    assert wire.ask(HOME, port, {"a": 1}, 5) == {"heard": {"a": 1}}


def test_an_answer_that_is_none_is_as_no_answer() -> None:
    def response(_: dict[str, Any]) -> Any:
        return "text"

    number = free_port()
    stop = wire.listen(HOME, number, response)
    assert wire.ask(HOME, number, {}, 5) is None
    stop()
