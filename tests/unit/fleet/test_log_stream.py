"""A followed log goes on after a lost connection, and every reason why there is no log is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.logs import LogLine
from sparkfleet.contract.rollout import CommandRefused
from sparkfleet.fleet import log_stream
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.remote import CommandOutput, ConnectionLostError
from sparkfleet.fleet.log_stream import Query

HOST: Any = SimpleNamespace(name="spark-01")
DONE = CommandOutput(True, "", "")
REFUSED = codec.dumps(
    CommandRefused(Diagnostic("nano", "no such service", hint="x HOST/nano", code="log-missing"))
)


def printed(
    monkeypatch: pytest.MonkeyPatch, query: Query, responses: list[Any]
) -> tuple[list[str], list[Sequence[str]], list[str]]:
    """Return the lines, the commands, and what was reported; answers: lines, then an end or an error."""
    lines: list[str] = []
    commands: list[Sequence[str]] = []
    reports: list[str] = []

    def stream(_: Any, argv: Sequence[str], on_line: Callable[[str], None]) -> CommandOutput:
        commands.append(argv)
        *texts, end = responses.pop(0)
        for text in texts:
            on_line(text)
        if isinstance(end, Exception):
            raise end
        assert isinstance(end, CommandOutput)
        return end

    monkeypatch.setattr(log_stream, "stream", stream)
    monkeypatch.setattr(remote, "reconnect", lambda _: reports.append("reconnected"))
    log_stream.print_log(HOST, query, lambda line: lines.append(line.text), reports.append)
    return lines, commands, reports


def line(text: str) -> str:
    return codec.dumps(LogLine(text))


def test_a_followed_log_goes_on_where_the_connection_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    responses = [[line("one"), ConnectionLostError("it was cut")], [line("two"), DONE]]
    lines, commands, reports = printed(monkeypatch, Query("engine", "nano", 5, follow=True), responses)
    assert lines == ["one", "two"]
    assert reports == ["connection lost (it was cut); reconnecting", "reconnected"]
    assert commands[0][-6:] == ("--tail", "5", "--age", "0.000", "--follow", "nano")
    assert float(commands[1][commands[1].index("--age") + 1]) >= log_stream.LEAST_AGE_S


def test_a_log_that_is_not_followed_ends_with_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionLostError):
        printed(monkeypatch, Query("engine", "nano"), [[line("one"), ConnectionLostError("it was cut")]])


@pytest.mark.provokes("programs-outdated")
@pytest.mark.parametrize(
    ("out", "err", "code"),
    [
        (REFUSED, "sparkfleet: no such service", "log-missing"),
        (
            "",
            "error: argument COMMAND: invalid choice: 'logs' (choose from 'x')",
            "programs-outdated",
        ),
        ("", f"/usr/bin/python3: can't open file '{remote.PROGRAM[-1]}': [Errno 2]", "programs-outdated"),
        ("", "Killed", "operation-failed"),
    ],
)
def test_why_there_is_no_log_is_named(monkeypatch: pytest.MonkeyPatch, out: str, err: str, code: str) -> None:
    with pytest.raises(SparkfleetError) as caught:
        printed(monkeypatch, Query("engine", "nano"), [[out, CommandOutput(False, out, err)]])
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert "HOST" not in found.hint
