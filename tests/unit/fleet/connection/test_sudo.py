"""A password for sudo goes over stdin, to the Sparks that declare one, and not twice where it was refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.fleet.connection import remote, secret_cache, sudo
from sparkfleet.fleet.connection.probe import observe
from sparkfleet.probe import root_shell
from sparkfleet.probe.response import sudo_diagnostic
from tests.unit.probe.requests import request_of


@dataclass
class Output:
    err: str = ""

    @property
    def stdout_lines(self) -> list[str]:
        return []

    @property
    def stderr_lines(self) -> list[str]:
        return self.err.splitlines()


@dataclass
class FakeHost:
    """A Spark that refuses with this text, or runs the command."""

    source: str = "env:SUDO_OF_TEST"
    refuses: str = ""
    commands: list[str] = field(default_factory=list)
    sent: list[list[str] | None] = field(default_factory=list)
    name: str = "spark-01"
    connector: Any = None

    @property
    def data(self) -> dict[str, Any]:
        return {"sparkfleet": {"sudo_password": self.source}}

    def run_shell_command(
        self, command: Any, _stdin: list[str] | None = None, **_: Any
    ) -> tuple[bool, Output]:
        self.commands.append(str(command))
        self.sent.append(_stdin)
        return not self.refuses, Output(f"{root_shell.REFUSED}{self.refuses}" if self.refuses else "")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    secret_cache.forget()
    monkeypatch.setenv("SUDO_OF_TEST", "right horse")


def run(host: FakeHost, stdin: str | None = None) -> remote.CommandOutput:
    return remote.run(host, ("cat", "a b"), stdin=stdin)  # type: ignore[arg-type]


def test_a_password_is_the_first_line_of_stdin_and_in_no_command() -> None:
    host = FakeHost()
    run(host, '{"some": "data"}')
    run(host)
    assert host.sent == [['right horse\n{"some": "data"}'], ["right horse\n"]]
    assert all("horse" not in command for command in host.commands)
    assert all(command.partition("; s=$?; [")[0].endswith(" cat 'a b'") for command in host.commands)


@pytest.mark.parametrize("source", ["env:NOT_SET_AT_ALL", ""])
def test_without_one_stdin_is_the_programs_alone(source: str) -> None:
    host = FakeHost(source)
    run(host, "data")
    assert host.sent == [["data"]]
    assert "sudo -n" in host.commands[0]


@pytest.mark.provokes("sudo-denied")
def test_a_refused_password_is_reported_with_its_source_and_never_sent_again() -> None:
    host = FakeHost(refuses="Sorry, try again. sudo: 1 incorrect password attempt")
    observed = observe(host, request_of())  # type: ignore[arg-type]
    assert isinstance(observed, Diagnostic)
    assert "password of env:SUDO_OF_TEST: sudo: 1 incorrect password attempt" in observed.message
    with pytest.raises(SparkfleetError, match="SUDO_OF_TEST"):
        run(host)
    assert len(host.commands) == 1


def test_a_sudo_that_needs_a_missing_password_is_reported_with_the_way_to_set_it() -> None:
    host = FakeHost("", refuses="sudo: a password is required")
    with pytest.raises(SparkfleetError, match="SPARKFLEET_SUDO_PASSWORD"):
        run(host)


@pytest.mark.provokes("secret-file-unreadable")
def test_a_source_that_gives_nothing_is_a_reason_and_nothing_is_sent() -> None:
    host = FakeHost("file:/does/not/exist")
    observed = observe(host, request_of())  # type: ignore[arg-type]
    assert isinstance(observed, Diagnostic)
    assert "sudo_password: the file /does/not/exist cannot be read" in str(observed)
    assert host.commands == []


def test_a_secret_is_read_once_however_many_want_it(tmp_path: Any) -> None:
    count = tmp_path / "count"
    source = f"command:sh -c 'echo x >> {count}; echo secret'"
    assert [secret_cache.read_once(source, field="x") for _ in range(3)] == ["secret"] * 3
    assert count.read_text() == "x\n"
    assert sudo.FIELD == "sudo_password"


@pytest.mark.parametrize("source", ["", "SPARKFLEET_SUDO_PASSWORD"])
def test_a_sudo_that_requires_a_terminal_gets_no_remedy_of_passwords(source: str) -> None:
    found = sudo_diagnostic("spark-01", "sudo: sorry, you must have a tty to run sudo", source)
    assert "!requiretty" in found.hint
    assert "password" not in f"{found.expected} {found.hint}".lower()
