"""The logs of a service on a Spark: which lines, with secrets masked, and until when."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.contract.logs import ENGINE, ROLLOUT, SUPERVISOR, LogLine
from sparkfleet.onhost.machine.system import CommandResult
from sparkfleet.onhost.service import logs
from sparkfleet.onhost.service.logs import LogQuery
from sparkfleet.onhost.state import journal
from tests.unit.onhost.world import Box, World, generation

NANO = generation()
SECRET = "hunter2-is-long"


def shown(world: World, query: LogQuery) -> list[str]:
    lines: list[LogLine] = []
    logs.show(world, query, lambda line: lines.append(line) if line else None)
    return [line.text for line in lines]


def refused(world: World, query: LogQuery) -> tuple[str, str]:
    with pytest.raises(SparkfleetError) as caught:
        shown(world, query)
    return caught.value.diagnostic.code, str(caught.value.diagnostic)


class LeftError(Exception):
    """The reader ended the connection."""


def until(
    world: World, query: LogQuery, enough: Callable[[list[LogLine | None]], bool]
) -> list[LogLine | None]:
    """Follow a log until the reader has enough."""
    lines: list[LogLine | None] = []

    def write(line: LogLine | None) -> None:
        lines.append(line)
        if enough(lines):
            raise LeftError

    with pytest.raises(LeftError):
        logs.show(world, query, write)
    return lines


def test_the_engines_log_is_shown_with_secrets_masked(world: World) -> None:
    box = world.serve(NANO)
    box.env = (f"MY_TOKEN={SECRET}",)
    world.engines["img:1"].log = f"first\nkey {SECRET} used\nsk-0123456789abcdefghij"
    assert shown(world, LogQuery(ENGINE, "nano")) == ["first", "key *** used", "***"]


def test_a_line_without_end_is_cut(world: World) -> None:
    world.serve(NANO)
    world.engines["img:1"].log = "x" * 100_000
    (line,) = shown(world, LogQuery(ENGINE, "nano"))
    assert len(line) < 9000


def test_the_only_service_need_not_be_named(world: World) -> None:
    world.serve(NANO)
    world.engines["img:1"].log = "ready"
    assert shown(world, LogQuery(ENGINE)) == ["ready"]


@pytest.mark.provokes("service-unknown")
def test_a_service_that_is_not_here_is_refused_with_those_that_are(world: World) -> None:
    world.serve(NANO)
    world.serve(generation("other", "img:other", port=9000))
    code, text = refused(world, LogQuery(ENGINE, "nanno"))
    assert (code, text.splitlines()[:2]) == (
        "service-unknown",
        ["nanno: no such service is here", "    expected: one of: nano, other"],
    )
    assert refused(world, LogQuery(ENGINE))[0] == "service-unknown"


@pytest.mark.provokes("log-missing")
def test_without_an_instance_the_last_rollout_is_named(world: World) -> None:
    box = world.serve(NANO)
    del world.boxes[box.id]
    code, text = refused(world, LogQuery(ENGINE, "nano"))
    assert (code, "--source rollout" in text) == ("log-missing", True)
    assert refused(world, LogQuery(ROLLOUT, "nano"))[0] == "log-missing"


def test_the_log_of_an_unmanaged_container_is_not_read(world: World) -> None:
    world.add("webui", None, "img:other")
    assert refused(world, LogQuery(ENGINE, "webui"))[0] == "container-name-taken"


def test_the_last_rollout_of_a_service_is_shown_to_its_result(world: World) -> None:
    world.serve(NANO)
    world.ask(RolloutRequest("nano-00000001", generation(image="img:2"), ("nano",)))
    world.clock += 10
    world.ask(RolloutRequest("other-00000001", generation("other", "img:other", port=9000), ()))
    lines = shown(world, LogQuery(ROLLOUT, "nano", follow=True))
    assert lines[0] == "rollout nano-00000001"
    assert "stop: stopping nano; a failure from now on rolls back" in lines
    assert lines[-1].startswith("result: nano serves generation ")
    assert shown(world, LogQuery(ROLLOUT))[0] == "rollout other-00000001"


def test_an_event_of_a_followed_rollout_is_shown_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serve(NANO)
    world.ask(RolloutRequest("nano-00000001", generation(image="img:2"), ("nano",)))
    once = shown(world, LogQuery(ROLLOUT, "nano"))
    monkeypatch.setattr(journal, "read_result", lambda *_: None)
    monkeypatch.setattr(logs, "RESULT", "no kind of event")
    for query in (LogQuery(ROLLOUT, "nano", follow=True), LogQuery(ROLLOUT, "nano", follow=True, tail=2)):

        def enough(lines: list[LogLine | None]) -> bool:
            return lines.count(None) == 4

        lines = [line.text for line in until(world, query, enough) if line]
        assert lines == (once if query.tail > 2 else [once[0], *once[-2:]])


def entry(number: int, message: object) -> str:
    return json.dumps(
        {"__REALTIME_TIMESTAMP": f"{number}000000", "__CURSOR": f"c{number}", "MESSAGE": message, "_PID": "1"}
    )


def test_the_supervisors_journal_is_followed_from_where_it_was_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(NANO)
    commands: list[tuple[str, ...]] = []
    responses = [
        f"{entry(1, 'starts')}\nno JSON\n{entry(2, list(b'caf' + bytes([233])))}",
        "",
        entry(3, "ends"),
    ]

    def run(argv: tuple[str, ...], timeout_s: float = 60) -> CommandResult:
        del timeout_s
        commands.append(argv)
        return CommandResult(0, responses.pop(0))

    monkeypatch.setattr(world, "run", run)
    lines = until(world, LogQuery(SUPERVISOR, "nano", tail=5, follow=True), lambda found: len(found) == 3)
    assert [(line.text, line.at) for line in lines if line] == [
        ("starts", 1.0),
        ("caf\ufffd", 2.0),
        ("ends", 3.0),
    ]
    assert [argv[-1] for argv in commands] == ["--lines=5", "--after-cursor=c2", "--after-cursor=c2"]
    assert all("--unit=sparkfleet-nano.service" in argv for argv in commands)


def test_a_followed_log_goes_on_with_the_next_instance_and_is_kept_alive_by_empty_lines(world: World) -> None:
    box = world.serve(NANO)
    world.engines["img:1"].log, world.engines["img:2"].log = "one", "two"
    replaced: list[Box] = []

    def replace_it() -> None:
        if world.clock > 1_000_060 and not replaced:
            replaced.append(box)
            box.running = False
            del world.boxes[box.id]
            world.serve(generation(image="img:2"))

    world.on_tick.append(replace_it)
    lines = until(
        world,
        LogQuery(ENGINE, "nano", follow=True),
        lambda found: found[-1] == LogLine("two"),
    )
    assert [line.text for line in lines if line] == ["one", "two"]
    assert lines.count(None) >= 5
