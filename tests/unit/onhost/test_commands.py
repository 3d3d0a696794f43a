"""Asking for a rollout, following it, recovering at boot, and the changes that need no rollout."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.generation import ContainerOf, Gate, Generation, RolloutRequest, convert
from sparkfleet.contract.rollout import CommandRefused, Event, RolloutResult
from sparkfleet.contract.state import StopRecord
from sparkfleet.onhost import main
from sparkfleet.onhost.machine import files, host
from sparkfleet.onhost.machine.stdio import PROBLEM
from sparkfleet.onhost.machine.system import CommandResult
from sparkfleet.onhost.rollout import follow, rollout, services, transient_unit
from sparkfleet.onhost.state import store, units
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError
from tests.unit.onhost.world import Engine, World, generation

OLD, NEW = generation(), generation(image="img:2")
ANA = "ana@laptop"


def request(rollout_id: str = "s1") -> RolloutRequest:
    return RolloutRequest(rollout_id, NEW, ("nano",))


def finish(world: World) -> RolloutResult:
    return rollout.run(world, world.spawned.pop())


def test_asking_writes_the_request_and_starts_it_detached(world: World) -> None:
    world.serve(OLD)
    code, response = transient_unit.request(world, request())
    assert (code, response.rollout, world.spawned) == (0, "s1", ["s1"])
    assert finish(world).outcome == "promoted"


def test_asking_twice_for_the_same_rollout_starts_it_once(world: World) -> None:
    transient_unit.request(world, request())
    assert transient_unit.request(world, request())[0] == 0
    assert world.spawned == ["s1"]


def test_asking_while_another_rollout_is_unfinished_names_it(world: World) -> None:
    world.serve(OLD)
    transient_unit.request(world, request())
    code, response = transient_unit.request(world, request("s2"))
    assert (code, response.rollout) == (transient_unit.BUSY, "s1")
    assert not store.rollout_directory(world.paths.state, "s2").exists()


def test_an_unfinished_rollout_whose_program_was_stopped_is_finished_before_the_next(world: World) -> None:
    transient_unit.request(world, request())
    world.spawned.clear()
    transient_unit.request(world, request("s2"))
    assert world.spawned == ["s1"]


def test_right_after_a_boot_an_unfinished_rollout_is_left_to_the_recovery(world: World) -> None:
    transient_unit.request(world, request())
    world.spawned.clear()
    world.enabled.add(units.RECOVER)
    assert transient_unit.resume(world, "s1") == ""
    assert world.spawned == []
    world.active.add(units.RECOVER)
    assert transient_unit.resume(world, "s1") == ""
    assert world.spawned == ["s1"]


def test_the_recovery_leaves_a_rollout_alone_that_was_asked_for_since_the_boot(world: World) -> None:
    transient_unit.request(world, request())
    world.active.add(transient_unit.unit_name("s1"))
    with store.lock(world.paths.state):  # as the running rollout does: nobody waits for it
        assert transient_unit.recover(world) == []


def test_without_systemd_run_nothing_is_left_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        world, "run", lambda argv, timeout_s=60: CommandResult(1, err="Failed to connect to bus")
    )
    code, response = transient_unit.request(world, request())
    assert code == 1
    assert response.diagnostic is not None
    assert "Failed to connect to bus" in response.diagnostic.message
    assert store.unfinished(world.paths.state) == ()


@pytest.mark.parametrize("bad", ["../../etc", "A", "", "x" * 49])
def test_an_id_that_would_escape_is_refused(world: World, bad: str) -> None:
    with pytest.raises(ValueError, match="cannot be a rollout's id"):
        transient_unit.request(world, request(bad))


def test_recovery_with_nothing_to_do_does_nothing(world: World) -> None:
    world.serve(OLD)
    points = world.points
    assert transient_unit.recover(world) == []
    assert world.points == points


def events(world: World, since: int = 0, wait_s: float = 0) -> list[Event]:
    return list(follow.follow(world, "s1", since, wait_s))


def outcome(seen: list[Event]) -> str:
    result = seen[-1].result
    assert result
    return RolloutResult.from_json(result).outcome


def test_following_gives_every_event_once_and_the_result_last(world: World) -> None:
    world.serve(OLD)
    transient_unit.request(world, request())
    finish(world)
    seen = events(world)
    assert outcome(seen) == "promoted"
    middle = seen[5].n + 1
    assert seen[:6] + events(world, middle) == seen


def test_following_waits_for_news_and_no_longer(world: World) -> None:
    transient_unit.request(world, request())
    directory = store.rollout_directory(world.paths.state, "s1")
    due = world.clock + 7

    def news() -> None:
        if world.clock >= due:
            world.on_tick.clear()
            files.append_line(
                directory / "events.jsonl", '{"n": 0, "kind": "note", "text": "hello"}', sync=False
            )

    world.on_tick.append(news)
    assert [event.text for event in events(world, 0, 60)] == ["hello"]
    assert world.clock < due + 2


def test_a_rollout_whose_program_does_not_run_is_reported_as_stalled(world: World) -> None:
    transient_unit.request(world, request())
    assert events(world, 0, 3)[-1].stalled


def test_a_result_whose_event_was_lost_is_still_reported(world: World) -> None:
    world.serve(OLD)
    transient_unit.request(world, request())
    finish(world)
    path = store.rollout_directory(world.paths.state, "s1") / "events.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert outcome(events(world)) == "promoted"
    assert outcome(events(world, 1000)) == "promoted"


def test_following_what_does_not_exist_is_an_error(world: World) -> None:
    with pytest.raises(FileNotFoundError, match="no rollout s1"):
        events(world)


def test_the_status_names_service_generation_and_unit(world: World) -> None:
    world.serve(OLD)
    nano = follow.status(world).services["nano"]
    assert (nano.generation, nano.active, nano.enabled) == (OLD.id, "active", "enabled")
    assert nano.container
    assert nano.container.running


def test_a_status_with_dockerd_away_says_unknown(world: World) -> None:
    world.serve(OLD)
    world.docker_gone = True
    container = follow.status(world).services["nano"].container
    assert container
    assert container.unknown
    assert container.unknown.code == "docker-unavailable"


def test_a_status_names_a_result_that_cannot_be_read(world: World) -> None:
    world.serve(OLD)
    world.ask(request())
    path = store.rollout_directory(world.paths.state, "s1") / "result.json"
    path.write_text("[]")
    (result,) = follow.status(world).results
    assert str(path) in result.cause


def test_repair_puts_the_unit_right_and_leaves_the_engine_alone(world: World) -> None:
    box = world.serve(OLD)
    path = world.paths.units / OLD.unit_name
    path.write_text("# Written by sparkfleet.\n[Service]\nRestart=always\n")
    beside = path.with_name(f"{OLD.unit_name}.d") / "x.conf"
    files.write_atomic(beside, "[Service]\nNice=1\n")
    world.enabled.clear()
    services.repair(world, OLD)
    assert path.read_text() == OLD.unit
    assert not beside.parent.exists()
    assert world.enabled == world.active == {OLD.unit_name}
    assert box.starts == 1


def test_repair_removes_drop_ins_of_the_unit_from_every_directory(world: World) -> None:
    world.serve(OLD)
    for root in (world.paths.units, *world.paths.units_beside):
        files.write_atomic(root / "sparkfleet-nano.service.d" / "by-hand.conf", "[Service]\nRestart=no\n")
    services.repair(world, OLD)
    assert list(world.root.rglob("by-hand.conf")) == []


def test_a_failed_rollout_restores_the_drop_ins_of_the_unit(world: World) -> None:
    world.serve(OLD)
    beside = world.paths.units_beside[0] / "sparkfleet-nano.service.d" / "by-hand.conf"
    files.write_atomic(beside, "[Service]\nNice=1\n")
    world.engines["img:2"] = Engine(end_s=1.0)
    transient_unit.request(world, request())
    assert finish(world).outcome == "restored"
    assert beside.read_text() == "[Service]\nNice=1\n"


def test_repair_starts_what_is_down(world: World) -> None:
    box = world.serve(OLD)
    box.running = False
    world.active.clear()
    services.repair(world, OLD)
    assert box.running


def test_repair_takes_a_new_gate_and_floor_into_the_state_without_a_new_container(world: World) -> None:
    box = world.serve(OLD)
    text = units.service_unit("nano", "nano", 9000, 60)
    changed = replace(OLD, unit=text, floor_mib=9000, gate=Gate(expect="42"))
    services.repair(world, changed)
    record = store.current(world.paths.state, "nano")
    assert record is not None
    assert convert(Generation, record) == changed
    assert record.container == ContainerOf(box.id, OLD.id)
    assert record.promoted_at == 1.0
    assert box.starts == 1


def test_repair_refuses_what_needs_another_container(world: World) -> None:
    world.serve(OLD)
    with pytest.raises(SparkfleetError, match="replaces it by a rollout"):
        services.repair(world, NEW)


@pytest.mark.parametrize("text", ["[Service]\nExecStart=/bin/true\n", ""])
def test_repair_never_overwrites_a_unit_that_sparkfleet_did_not_write(world: World, text: str) -> None:
    world.serve(OLD)
    path = world.paths.units / OLD.unit_name
    path.write_text(text)
    with pytest.raises(SparkfleetError, match="not managed by sparkfleet"):
        services.repair(world, OLD)
    assert path.read_text() == text


def test_repair_of_nothing_refuses(world: World) -> None:
    with pytest.raises(SparkfleetError, match="no container nano"):
        services.repair(world, OLD)


def test_repair_does_not_wait(world: World) -> None:
    world.serve(OLD)
    with store.lock(world.paths.state), pytest.raises(store.BusyError):
        services.repair(world, OLD)


def test_a_stopped_service_keeps_container_and_state_and_stays_down_after_a_reboot(world: World) -> None:
    box = world.serve(OLD)
    services.stop(world, "nano", ANA)
    world.reboot()
    assert not box.running
    assert store.services(world.paths.state) == ("nano",)


def test_a_removed_service_leaves_nothing(world: World) -> None:
    world.serve(OLD)
    services.remove(world, "nano")
    assert not world.boxes
    assert not list(world.paths.units.iterdir())
    assert not store.service_directory(world.paths.state, "nano").exists()


def test_a_container_that_is_not_ours_is_never_stopped(world: World) -> None:
    box = world.add("nano", None, "img:1")
    with pytest.raises(SparkfleetError, match="not managed by sparkfleet"):
        services.remove(world, "nano")
    assert box.running


def test_a_rollback_names_the_previous_generation_and_expects_the_current_container(world: World) -> None:
    world.serve(OLD)
    world.ask(request())
    rollback = services.rollback(world, "nano", "back-1")
    now = world.named("nano")
    assert now is not None
    assert (rollback.candidate, rollback.replaces, rollback.expect) == (OLD, ("nano",), (("nano", now.id),))
    assert world.ask(rollback).outcome == "promoted"
    assert services.rollback(world, "nano", "back-2").candidate == NEW


def test_a_rollback_to_a_generation_whose_unit_was_updated_labels_its_container(
    world: World,
) -> None:
    world.serve(OLD)
    updated = replace(OLD, unit=units.service_unit("nano", "nano", 9000, 60))
    services.repair(world, updated)
    world.ask(request())
    rollback = services.rollback(world, "nano", "back-1")
    assert rollback.candidate == updated
    assert updated.id != OLD.id
    assert world.ask(rollback).outcome == "promoted"
    box = world.named("nano")
    assert box is not None
    assert box.labels["io.sparkfleet.generation"] == updated.id


def test_a_rollback_over_a_change_of_service_brings_the_other_service_back(world: World) -> None:
    world.serve(OLD)
    world.engines["img:2"].name = "qwen"
    world.ask(RolloutRequest("s1", generation("qwen", "img:2"), ("nano",)))
    rollback = services.rollback(world, "qwen", "back-1")
    assert (rollback.candidate, rollback.replaces) == (OLD, ("qwen",))
    assert world.ask(rollback).outcome == "promoted"
    assert [box.name for box in world.boxes.values()] == ["nano"]


@pytest.mark.provokes("rollback-unavailable")
def test_a_first_generation_has_no_rollback_target(world: World) -> None:
    world.ask(RolloutRequest("s1", NEW, ()))
    with pytest.raises(SparkfleetError, match="first generation"):
        services.rollback(world, "nano", "back-1")


def test_a_program_on_stdin_is_run_with_the_image_and_keeps_its_own_options(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[object] = []
    monkeypatch.setattr(host, "Spark", lambda: world)
    monkeypatch.setattr(os, "execvp", lambda *argv: ran.append(argv))
    main.main(["run-program", "process", "img:1", "python3", "parse", "org/m", "--help", "--port", "8000"])
    assert ran == [("run", ("run", "img:1", "python3", "parse", "org/m", "--help", "--port", "8000"))]


def test_a_rollout_that_is_gone_ends_its_program_without_another_try(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "Spark", lambda: world)
    assert main.main(["rollout-run", "s1"]) == PROBLEM
    assert "there is no rollout s1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "case",
    [
        (store.BusyError("a rollout is in progress"), "rollout-in-progress", transient_unit.BUSY),
        (RuntimeRefusedError("no such name"), "runtime-refused", PROBLEM),
        (RuntimeUnavailableError("it does not answer"), "docker-unavailable", PROBLEM),
        (ValueError("no such number"), "contract-shape", PROBLEM),
        (FileNotFoundError("there is no rollout s1"), "job-lost", PROBLEM),
    ],
)
def test_every_refusal_of_a_command_has_a_code(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[Exception, str, int],
) -> None:
    error, code, exit_code = case

    def fails(*_: object) -> int:
        raise error

    monkeypatch.setattr(host, "Spark", lambda: world)
    monkeypatch.setattr(main, "_status", fails)
    assert main.main(["status"]) == exit_code
    seen = capsys.readouterr()
    found = CommandRefused.from_json(json.loads(seen.out)).diagnostic
    assert (found.code, found.message) == (code, str(error))
    assert found.hint
    assert str(error) in seen.err


def stop_record(world: World) -> StopRecord | None:
    return store.stop_record(world.paths.state, "nano")


def test_a_stop_is_recorded_with_who_when_and_why_and_stays_as_it_was_recorded(world: World) -> None:
    world.serve(OLD)
    services.stop(world, "nano", ANA, "a benchmark")
    record = stop_record(world)
    assert record is not None
    assert (record.operator, record.reason) == (ANA, "a benchmark")
    world.clock += 600
    services.stop(world, "nano", "bob@desk")  # as after a lost connection
    assert stop_record(world) == record


def test_a_service_that_was_started_by_hand_is_stopped_with_a_new_record(world: World) -> None:
    world.serve(OLD)
    services.stop(world, "nano", ANA)
    world.systemctl("start", OLD.unit_name)
    services.stop(world, "nano", "bob@desk")
    record = stop_record(world)
    assert record is not None
    assert record.operator == "bob@desk"
    assert world.active == world.enabled == set()


def test_a_stop_of_nothing_is_refused_and_records_nothing(world: World) -> None:
    with pytest.raises(SparkfleetError, match="no such service"):
        services.stop(world, "nano", ANA)
    assert not store.service_directory(world.paths.state, "nano").exists()


def test_a_rollout_of_the_recorded_generation_starts_a_stopped_service_and_ends_the_stop(
    world: World,
) -> None:
    box = world.serve(OLD)
    services.stop(world, "nano", ANA)
    world.reboot()
    transient_unit.request(world, RolloutRequest("s1", OLD, ("nano",), (("nano", box.id),)))
    assert finish(world).outcome == "promoted"
    assert stop_record(world) is None
    assert world.active == world.enabled == {OLD.unit_name}


def test_a_start_that_fails_leaves_the_service_stopped_over_reboots(world: World) -> None:
    box = world.serve(OLD)
    services.stop(world, "nano", ANA)
    world.engines["img:1"] = Engine(end_s=1.0)
    transient_unit.request(world, RolloutRequest("s1", OLD, ("nano",), (("nano", box.id),)))
    result = finish(world)
    assert result.outcome == "failed"
    assert result.diagnostic is not None
    assert "the engine ended with exit code 1" in result.diagnostic.message
    world.reboot()
    found = world.named("nano")
    assert found is not None
    assert (found.id, found.running) == (box.id, False)
    assert stop_record(world) is not None
    assert world.active == world.enabled == set()


def test_repair_ends_the_stop_of_a_service_that_was_started_by_hand(world: World) -> None:
    world.serve(OLD)
    services.stop(world, "nano", ANA)
    world.systemctl("start", OLD.unit_name)
    services.repair(world, OLD)
    assert stop_record(world) is None
    assert world.enabled == {OLD.unit_name}
