"""A program has a time limit that holds, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from sparkfleet.contract import command
from sparkfleet.contract.command import CommandResult


def test_output_and_exit_code_are_those_of_the_program() -> None:
    assert command.run(["sh", "-c", "cat; echo err >&2; exit 3"], 30, stdin="in") == CommandResult(
        3, "in", "err\n"
    )
    assert command.run(["cat"], 30) == CommandResult(0)


def test_a_program_that_does_not_read_its_stdin_is_no_error() -> None:
    assert command.run(["true"], 30, stdin="x" * 1_000_000).code == 0


def test_a_program_that_cannot_be_started_has_a_code(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    assert command.run(["no-such-program"], 1) == CommandResult(
        command.MISSING, err="no-such-program: no such command"
    )
    assert command.run([str(tmp_path / "text")], 1).code == command.NOT_STARTED
    if os.geteuid():
        assert command.run(["true"], 1, user=os.geteuid() + 1).code == command.NOT_STARTED


@pytest.mark.parametrize("stdin", [None, "x" * 1_000_000])
def test_a_program_that_sigkill_does_not_end_is_left(
    monkeypatch: pytest.MonkeyPatch, stdin: str | None
) -> None:
    """Without the limit after SIGKILL this waits for 1000 s: the time limit of a test ends it."""
    hung: list[subprocess.Popen[str]] = []

    def kill(process: subprocess.Popen[str]) -> None:
        hung.append(process)

    monkeypatch.setattr(subprocess.Popen, "kill", kill)
    monkeypatch.setattr(command, "ENDS_S", 0.1)
    try:
        result = command.run(["sleep", "1000"], 0.1, stdin=stdin)
    finally:
        for process in hung:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert result == CommandResult(command.TIMED_OUT, err="sleep 1000: no end after 0 s")


def test_a_child_that_keeps_the_output_open_does_not_hold_the_caller() -> None:
    result = command.run(["sh", "-c", "sleep 3 & echo $!"], 0.2)
    assert result.code == command.TIMED_OUT
