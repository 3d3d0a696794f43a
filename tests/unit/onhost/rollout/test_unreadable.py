"""A rollout whose files cannot be read is given up: nothing retries it, nothing waits for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.contract.rollout import UNREADABLE, CommandRefused, RolloutResult
from sparkfleet.onhost import main
from sparkfleet.onhost.machine import host
from sparkfleet.onhost.machine.stdio import PROBLEM
from sparkfleet.onhost.rollout import follow, rollout, services, transient_unit
from sparkfleet.onhost.state import store
from tests.unit.onhost.world import Killed, World, generation

OLD, NEW = generation(), generation(image="img:2")
REQUESTS = {
    "truncated": '{"id": "s1", "candi',
    "empty": "",
    "a list": "[]",
    "of another shape": '{"id": 7}',
}
unreadable = pytest.mark.parametrize("text", REQUESTS.values(), ids=REQUESTS)


def left_behind(world: World, text: str) -> Path:
    """Put an unfinished rollout with this request there, beside a service that serves."""
    world.serve(OLD)
    path = store.rollout_directory(world.paths.state, "s1") / "request.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def result_of(world: World) -> RolloutResult:
    path = store.rollout_directory(world.paths.state, "s1") / "result.json"
    return RolloutResult.from_json(json.loads(path.read_text()))


def check(world: World, path: Path, text: str) -> None:
    """The rollout has ended with the file's name and a next command; the file is as it was."""
    result = result_of(world)
    assert result.outcome == UNREADABLE
    assert str(path) in result.cause
    assert result.diagnostic is not None
    hint = result.diagnostic.hint
    assert "deploys/serve.py" in hint
    assert path.read_text() == text
    assert "s1" not in store.unfinished(world.paths.state)
    assert world.serving(OLD.port) is not None


@unreadable
def test_its_program_ends_instead_of_being_restarted_for_ever(world: World, text: str) -> None:
    path = left_behind(world, text)
    assert rollout.run(world, "s1").outcome == UNREADABLE
    check(world, path, text)
    assert rollout.run(world, "s1") == result_of(world)


@unreadable
def test_a_boot_neither_fails_nor_continues_it(world: World, text: str) -> None:
    path = left_behind(world, text)
    world.reboot()
    assert world.spawned == []
    world.sleep(60)
    check(world, path, text)


@unreadable
def test_the_next_rollout_does_not_wait_for_it(world: World, text: str) -> None:
    path = left_behind(world, text)
    code, response = transient_unit.request(world, RolloutRequest("s2", NEW, ("nano",)))
    assert (code, response.rollout, world.spawned) == (0, "s2", ["s2"])
    check(world, path, text)
    assert rollout.run(world, "s2").outcome == "promoted"


def test_another_unfinished_rollout_is_still_finished_first(world: World) -> None:
    left_behind(world, "[]")
    world.write(RolloutRequest("s0", NEW, ("nano",)))
    code, response = transient_unit.request(world, RolloutRequest("s2", NEW, ("nano",)))
    assert (code, response.rollout) == (transient_unit.BUSY, "s0")


def test_who_follows_it_gets_its_result(world: World) -> None:
    left_behind(world, "[]")
    (event,) = follow.follow(world, "s1", 0, 0)
    assert event.stalled
    assert transient_unit.resume(world, "s1") == ""
    rollout.run(world, world.spawned.pop())
    (event,) = follow.follow(world, "s1", 0, 0)
    assert event.result
    assert event.result["outcome"] == UNREADABLE
    assert "cannot be continued" in event.text


def killed_after_the_stop(world: World) -> Path:
    """Kill a rollout while nothing serves; return its directory."""
    world.serve(OLD)
    world.write(RolloutRequest("s1", NEW, ("nano",)))
    world.on_tick.append(lambda: setattr(world, "kill_at", world.points))
    with pytest.raises(Killed):
        rollout.run(world, "s1")
    world.on_tick.clear()
    world.kill_at = -1
    world.dies()
    return store.rollout_directory(world.paths.state, "s1")


@pytest.mark.parametrize("name", ["events.jsonl", "before.json"])
def test_a_journal_that_cannot_be_read_ends_it_too(world: World, name: str) -> None:
    path = killed_after_the_stop(world) / name
    text = "[]\n"
    path.write_text(text)
    assert rollout.run(world, "s1").outcome == UNREADABLE
    assert str(path) in result_of(world).cause
    evidence = path if path.exists() else path.with_name(f"{name}.unreadable")
    assert evidence.read_text() == text
    (event,) = [event for event in follow.follow(world, "s1", 0, 0) if event.result]
    assert event.text == result_of(world).text


@pytest.mark.parametrize("text", ["[]", '{"version": 99}'])
def test_a_record_that_cannot_be_read_is_never_taken_for_none(world: World, text: str) -> None:
    box = world.serve(OLD)
    path = store.record_path(world.paths.state, "nano")
    path.write_text(text)
    for change in (
        lambda: services.repair(world, OLD),
        lambda: services.remove(world, "nano"),
        lambda: services.rollback(world, "nano", "back-1"),
    ):
        with pytest.raises(codec.ContractError, match=str(path)):
            change()
    result = world.ask(RolloutRequest("s1", NEW, ("nano",)))
    assert result.diagnostic is not None
    assert (result.outcome, result.diagnostic.location) == ("refused", str(path))
    assert result.diagnostic.hint
    unknown = follow.status(world).services["nano"].unknown
    assert unknown
    assert unknown.location == str(path)
    assert (path.read_text(), box.running, box.starts) == (text, True, 1)


@pytest.mark.parametrize("name", ["request.json", "events.jsonl", "before.json"])
def test_a_rollout_of_a_newer_version_waits_for_newer_programs_which_then_restore_the_service(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = killed_after_the_stop(world) / name
    before = path.read_text()
    text = '{"version": 99}\n'
    path.write_text(text)
    monkeypatch.setattr(host, "Spark", lambda: world)
    monkeypatch.setattr(host, "stay_in_memory", lambda: None)

    for command in ("rollout-run", "resume"):  # systemd restarts the unit for no exit code of 1
        assert main.main((command, "s1")) == PROBLEM
        refused = CommandRefused.from_json(json.loads(capsys.readouterr().out)).diagnostic
        assert (refused.location, refused.code, refused.hint) == (str(path), codec.NEWER, codec.NEWER_HINT)
    code, response = transient_unit.request(world, RolloutRequest("s2", NEW, ("nano",)))
    assert response.diagnostic is not None
    assert (code, response.diagnostic.code, world.spawned) == (1, codec.NEWER, [])
    assert main.main(("recover",)) == 0  # a failure would repeat it every ten seconds
    assert "rollout s1 is not continued" in capsys.readouterr().err
    world.reboot()
    assert world.spawned == []
    assert path.read_text() == text
    assert store.unfinished(world.paths.state) == ("s1",)

    path.write_text(before)  # as newer programs read it
    world.reboot()
    assert world.spawned == ["s1"]
    assert rollout.run(world, "s1").outcome == "restored"
    assert world.serving(OLD.port) is not None
