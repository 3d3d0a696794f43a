import getpass
import sys
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.config import secret
from sparkfleet.contract.diagnostic import SparkfleetError


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", " abc\n")
    assert secret.read("env:SOME_TOKEN") == "abc"


def test_an_unset_variable_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_TOKEN", raising=False)
    assert secret.read("env:SOME_TOKEN") == ""


def test_a_secret_comes_from_a_file_or_a_command(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("abc\n")
    assert secret.read(f"file:{path}") == "abc"
    assert secret.read(f"command:cat '{path}'") == "abc"


def test_nothing_declared_is_no_secret() -> None:
    assert secret.read("") == ""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("file:/does/not/exist", "No such file"),
        ("file:/dev/null", "is empty"),
        ("command:false", "exit code 1"),
        ("command:true", "no output"),
        ("command:no-such-program-here", "did not run"),
        ("command:'unclosed", "did not run"),
    ],
)
def test_a_declared_source_that_gives_nothing_is_an_error(source: str, message: str) -> None:
    with pytest.raises(SparkfleetError, match=message):
        secret.read(source)


@pytest.mark.provokes("secret-command-failed")
def test_what_a_failing_command_printed_is_not_repeated() -> None:
    with pytest.raises(SparkfleetError) as error:
        secret.read("command:sh -c 'printf %s \"hf_\"x1y2z3; exit 3'")
    assert "hf_x1y2z3" not in str(error.value)


class Terminal:
    def __init__(self, exists: bool) -> None:
        self.exists = exists

    def isatty(self) -> bool:
        return self.exists


def test_a_secret_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(exists=True))
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f"typed at {prompt}")
    assert secret.read("ask", field="sudo_password") == "typed at sudo_password: "


@pytest.mark.provokes("secret-not-entered")
def test_nothing_typed_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(exists=True))
    monkeypatch.setattr(getpass, "getpass", lambda _: "")
    with pytest.raises(SparkfleetError, match="no secret was entered"):
        secret.read("ask")


@pytest.mark.parametrize("stdin", [Terminal(exists=False), None])
def test_without_a_terminal_there_is_no_prompt(monkeypatch: pytest.MonkeyPatch, stdin: Any) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(SparkfleetError, match="not a terminal"):
        secret.read("ask")
