"""Output of a remote command line by line: only what the program printed, and each way in which it ends."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.remote import ConnectionLostError
from sparkfleet.fleet.connection.stream import stream
from sparkfleet.probe import root_shell


@dataclass
class Channel:
    """A channel of SSH: the program prints these lines in its frame, and ends with this code."""

    out: str
    code: int | None = 0
    err: str = ""
    prints: str = "Welcome!"
    sent: bytes = b""
    ended: bool = False
    command: str = ""
    error: Exception | None = None
    closed: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def exec_command(self, command: str) -> None:
        self.command = command

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def shutdown_write(self) -> None:
        self.ended = True

    def makefile(self, _: str) -> Any:
        found = re.search(r"sparkfleet-[0-9a-f]{16}", self.command)
        assert found is not None
        end = f"\n<</{found[0]} {self.code}>>" if self.code is not None else ""
        text = f"{self.prints}\n<<{found[0]}>>\n{self.out}{end}\n{self.prints}\n".encode()
        if self.error is None:
            return io.BytesIO(text)
        return self._breaking(text)

    def _breaking(self, text: bytes) -> Any:
        yield from text.splitlines()[:3]
        assert self.error is not None
        raise self.error

    def makefile_stderr(self, _: str) -> io.BytesIO:
        return io.BytesIO(self.err.encode())


def host_of(channel: Channel, *, alive: bool = True) -> Any:
    transport = SimpleNamespace(open_session=lambda timeout: channel, is_active=lambda: alive)
    client = SimpleNamespace(get_transport=lambda: transport)
    return SimpleNamespace(name="spark-01", connector=SimpleNamespace(client=client), data={})


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SETTLE_S", 0)


def read(channel: Channel, *, alive: bool = True, stdin: str = "") -> tuple[list[str], remote.CommandOutput]:
    lines: list[str] = []
    ended = stream(host_of(channel, alive=alive), ("logs", "a b"), lines.append, stdin)
    assert channel.closed
    return lines, ended


def test_only_lines_of_the_program_are_passed_on_without_control_characters() -> None:
    lines, ended = read(Channel("one\n\n\x1b[31mtwo\nthree"))
    assert lines == ["one", "?[31mtwo", "three"]
    assert (ended.ok, ended.out) == (True, "three")


def test_the_program_gets_its_input_and_its_end() -> None:
    channel = Channel("one")
    read(channel, stdin="question")
    assert (channel.sent, channel.ended) == (b"question", True)
    assert "logs 'a b'" in " ".join(shlex.split(channel.command))


def test_the_exit_code_is_the_programs() -> None:
    _, ended = read(Channel("why", code=1, err="sparkfleet: why"))
    assert ended == remote.CommandOutput(False, "why", "sparkfleet: why")


@pytest.mark.parametrize("error", [TimeoutError(), OSError("gone"), EOFError()])
def test_a_connection_that_breaks_is_no_end_of_the_program(error: Exception) -> None:
    with pytest.raises(ConnectionLostError):
        read(Channel("one", error=error))
    with pytest.raises(ConnectionLostError):
        read(Channel("one", code=None), alive=False)


def test_an_end_without_the_frames_end_is_a_failure() -> None:
    assert not read(Channel("one", code=None))[1].ok


def test_sudo_that_refuses_is_an_error_of_its_own() -> None:
    refused = f"{root_shell.REFUSED}sudo: a password is required"
    with pytest.raises(SparkfleetError) as caught:
        read(Channel("", code=None, err=refused))
    assert caught.value.diagnostics[0].code == "sudo-denied"


def test_a_spark_that_is_this_machine_needs_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    host: Any = SimpleNamespace(name="spark-01", connector=SimpleNamespace(), data={})
    monkeypatch.setattr(root_shell, "root_function", lambda **_: 'r() { "$@"; }')
    lines: list[str] = []
    ended = stream(host, ("sh", "-c", "cat; echo two; exit 3"), lines.append, "one\n")
    assert (lines, ended.ok, ended.out) == (["one", "two"], False, "two")
