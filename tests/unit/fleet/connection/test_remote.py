"""Commands on a Spark outlive their connection; a job is followed to its end over any number of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.rollout import LOST, CommandRefused, JobStarted, RolloutResult
from sparkfleet.fleet.connection import remote
from sparkfleet.probe import frame
from tests.unit import frames

CUT = object()
"""In a script: the connection breaks here."""


@dataclass
class Output:
    out: str

    @property
    def stdout_lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def stderr_lines(self) -> list[str]:
        return []


@dataclass
class FakeHost:
    """A host that answers from a script; an answer that is CUT breaks the connection."""

    script: list[Any]
    commands: list[str] = field(default_factory=list)
    alive: bool = True
    connects: int = 0
    name: str = "spark-01"
    prints: str = ""
    """What the login shell prints before and after each command."""
    code: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def connector(self) -> FakeHost:
        return self

    @property
    def client(self) -> FakeHost:
        return self

    def get_transport(self) -> FakeHost:
        return self

    def is_active(self) -> bool:
        return self.alive

    def connect(self) -> None:
        self.connects += 1
        self.alive = True

    def run_shell_command(self, command: Any, **_: Any) -> tuple[bool, Output]:
        self.commands.append(str(command))
        response = self.script.pop(0)
        if response is CUT:
            self.alive = False
            return False, Output("")
        if isinstance(response, Exception):
            raise response
        lines = frames.response(str(command), response.rstrip("\n"), self.code)
        return True, Output("\n".join([self.prints, *lines, self.prints]))


def events(*numbers: int) -> str:
    return "".join(json.dumps({"n": n, "kind": "note", "text": f"event {n}"}) + "\n" for n in numbers)


RESULT = json.dumps({"n": 9, "kind": "result", "outcome": "promoted"}) + "\n"


def follow(host: Any, job: str = "nano-1") -> tuple[list[int], RolloutResult]:
    """Return the numbers of the events before the result, and the result."""
    seen: list[int] = []
    result = remote.follow(host, job, RolloutResult, lambda _: None, lambda event: seen.append(event.n))
    return seen, result


def followed(host: FakeHost) -> list[int]:
    seen, result = follow(host)
    assert result.outcome == "promoted"
    return seen


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.mark.parametrize(
    ("job", "command"),
    [
        ("nano-1a2b3c4d", "follow"),
        ("stage-1a2b3c4d", "stage-follow"),
        ("stage-prune-1a2b3c4d", "stage-follow"),
        ("fabric-0123456789ab", "fabric-follow"),
        ("fabric-demo-1a2b3c4d", "follow"),  # rollouts of services of these names
        ("fabric-1a2b3c4d", "follow"),
    ],
)
def test_a_job_is_followed_by_the_command_of_its_kind(job: str, command: str) -> None:
    host = FakeHost([RESULT])
    follow(host, job)
    assert f" {command} {job} " in host.commands[0]


def test_a_job_is_followed_from_where_the_last_answer_ended() -> None:
    host = FakeHost([events(0, 1), events(2), RESULT])
    assert followed(host) == [0, 1, 2]
    assert [command_line.split("--since ")[1][0] for command_line in host.commands] == ["0", "2", "3"]


@pytest.mark.parametrize("broken", [CUT, TimeoutError(), OSError("gone"), EOFError()])
def test_a_broken_connection_is_reopened_and_no_event_is_lost_or_reported_twice(broken: Any) -> None:
    host = FakeHost([events(0), broken, events(1), broken, broken, RESULT])
    assert followed(host) == [0, 1]
    assert host.connects == 3


@pytest.mark.parametrize("printed", ["Welcome to DGX Spark!", '{"not": "for programs"}', RESULT, events(7)])
def test_what_a_login_shell_prints_is_no_event(printed: str) -> None:
    assert followed(FakeHost([events(0), events(1), RESULT], prints=printed)) == [0, 1]


@dataclass
class OtherProgram(FakeHost):
    """A login shell that runs no command, prints what a host's programs could print, and succeeds."""

    def run_shell_command(self, command: Any, **_: Any) -> tuple[bool, Output]:
        return True, Output(self.prints)


STOLEN = frame.new_nonce()


@pytest.mark.parametrize(
    "printed",
    [RESULT, f"<<{STOLEN}>>\n{RESULT}\n<</{STOLEN} 0>>", f"<<>>\n{RESULT}\n<</ 0>>"],
    ids=["bare", "in the frame of another command", "without a nonce"],
)
def test_a_result_that_a_login_shell_prints_is_not_the_result_of_the_rollout(printed: str) -> None:
    host: Any = OtherProgram([], prints=printed)
    seen, result = follow(host)
    assert (seen, result.outcome) == ([], LOST)
    assert "no output of the program; the login printed: " in result.cause


def test_a_command_succeeds_by_its_own_exit_code_not_by_the_login_shells() -> None:
    host: Any = FakeHost(["done"], code=3)
    assert remote.run(host, ("true",)) == remote.CommandOutput(False, "done", "")


def test_an_event_of_another_shape_names_host_and_message() -> None:
    with pytest.raises(SparkfleetError, match="spark-01: event: n: found a string 'x'"):
        followed(FakeHost(['{"n": "x", "kind": "note"}']))


def test_a_job_whose_program_does_not_run_is_let_go_on() -> None:
    stalled = json.dumps({"n": 1, "kind": "waiting", "text": "its program does not run", "stalled": True})
    host = FakeHost([events(0), stalled, "", events(1), RESULT])
    assert followed(host) == [0, 1, 1]
    assert "resume nano-1" in host.commands[2]


def test_a_job_that_cannot_be_continued_is_not_followed_for_ever() -> None:
    stalled = json.dumps({"n": 0, "kind": "waiting", "text": "its program does not run", "stalled": True})

    class Refusing(FakeHost):
        def run_shell_command(self, command: Any, **options: Any) -> tuple[bool, Output]:
            self.code = int(" resume " in str(command))
            return super().run_shell_command(command, **options)

    seen, result = follow(Refusing([stalled, "systemd-run: no bus"]))
    assert (seen, result.outcome) == ([0], LOST)
    assert "systemd-run: no bus" in result.cause


def test_a_command_whose_connection_broke_is_run_again() -> None:
    host = FakeHost([CUT, "done"])
    assert remote.run(host, ("true",)).out == "done"  # type: ignore[arg-type]


def test_a_connection_that_breaks_every_time_is_reported() -> None:
    host = FakeHost([CUT] * remote.TRIES)
    with pytest.raises(remote.ConnectionLostError, match="cut"):
        remote.run(host, ("true",))  # type: ignore[arg-type]


def test_a_command_that_fails_on_a_sound_connection_has_failed() -> None:
    @dataclass
    class Failing(FakeHost):
        def run_shell_command(self, command: Any, **_: Any) -> tuple[bool, Output]:
            return False, Output("no")

    assert not remote.run(Failing([]), ("false",)).ok  # type: ignore[arg-type]


@pytest.mark.parametrize("printed", ["", "nothing", "[]", "null", '{"job": 1}', '{"job": "x"', "\ud800"])
def test_output_of_another_shape_names_host_and_message(printed: str) -> None:
    host: Any = FakeHost([])
    with pytest.raises(SparkfleetError, match="spark-01: response to a request of a job"):
        remote.document(JobStarted, host, printed)


def test_a_refusal_of_the_programs_on_a_host_keeps_its_code_and_remedy() -> None:
    refused = Diagnostic("events.jsonl", "event of version 99", hint="update", code="contract-newer")
    host: Any = FakeHost([json.dumps(CommandRefused(refused).to_json())], code=1)
    _, result = follow(host)
    assert (result.outcome, result.diagnostic) == (LOST, refused)


def test_programs_are_replaced_as_a_whole_file() -> None:
    host: Any = FakeHost([""])
    remote.update_programs(host)
    assert "mktemp" in host.commands[0]
    assert "mv -T" in host.commands[0]
    assert remote.PROGRAM[-1] in host.commands[0]


@pytest.mark.provokes("host-change-failed")
def test_programs_that_cannot_be_replaced_are_an_error_with_the_reason() -> None:
    host: Any = FakeHost(["No space left on device"], code=1)
    with pytest.raises(SparkfleetError, match="No space left on device"):
        remote.update_programs(host)
