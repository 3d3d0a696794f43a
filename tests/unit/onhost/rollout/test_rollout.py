from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.generation import Gate, Generation, RolloutRequest, convert
from sparkfleet.contract.rollout import RolloutResult
from sparkfleet.onhost.machine.system import CommandResult, PortOwner
from sparkfleet.onhost.rollout import changeover
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import read_events
from sparkfleet.runtimes.base import Instance
from tests.unit.onhost.world import TOTAL_MIB, Box, Engine, World, generation

OLD, NEW, OTHER = generation(), generation(image="img:2"), generation("other", "img:other", port=9000)


def ask(world: World, candidate: Generation | None, *replaces: str, **more: Any) -> RolloutResult:
    return world.ask(RolloutRequest("s1", candidate, replaces, **more))


def picture(world: World) -> Any:
    """Everything that a rollout may touch."""
    boxes = {box.id: (box.name, box.running, box.started) for box in world.boxes.values()}
    unit_files = {path.name: path.read_text() for path in world.paths.units.iterdir() if path.is_file()}
    records = {name: store.current(world.paths.state, name) for name in store.services(world.paths.state)}
    return boxes, unit_files, records, sorted(world.enabled), sorted(world.active)


def test_a_good_candidate_replaces_the_old_generation(world: World) -> None:
    old = world.serve(OLD)
    result = ask(world, NEW, "nano")
    new = world.named("nano")
    assert result.outcome == "promoted"
    assert new is not None
    assert new.running
    assert new.labels["io.sparkfleet.generation"] == NEW.id
    assert old.id not in world.boxes
    assert len(world.boxes) == 1
    assert (world.paths.units / NEW.unit_name).read_text() == NEW.unit
    assert world.active == world.enabled == {NEW.unit_name}


def test_the_unit_adopts_the_candidate_without_a_restart(world: World) -> None:
    world.serve(OLD)
    ask(world, NEW, "nano")
    box = world.named("nano")
    assert box is not None
    assert box.starts == 1


def test_a_promotion_is_written_down_for_plan_and_rollback(world: World) -> None:
    world.serve(OLD)
    ask(world, NEW, "nano", operator="ada@desk")
    record = store.current(world.paths.state, "nano")
    assert record is not None
    assert convert(Generation, record) == NEW
    assert record.operator == "ada@desk"
    assert record.gate_result.answer == "204"
    assert record.gate_result.tokens > 0
    assert [one.id for one in record.replaced] == [OLD.id]
    assert [one.id for one in store.generations(world.paths.state, "nano")] == [OLD.id, NEW.id]


def test_downtime_counts_from_the_stop_to_the_first_right_answer(world: World) -> None:
    world.serve(OLD)
    result = ask(world, NEW, "nano")
    stop = 2.0
    start = world.engines["img:2"].ready_s
    assert result.downtime_s is not None
    assert stop + start <= result.downtime_s <= stop + start + 2 + world.engines["img:2"].completion_s


@pytest.mark.parametrize(("serving", "text"), [(True, "stopping nano;"), (False, "no engine to stop")])
def test_the_stop_step_names_what_it_stops(world: World, serving: bool, text: str) -> None:
    if serving:
        world.serve(OLD)
    ask(world, NEW, *(["nano"] if serving else []))
    events = read_events(store.rollout_directory(world.paths.state, "s1"))
    (stop,) = [event.text for event in events if event.kind == "step" and event.step == "stop"]
    assert stop.startswith(text)


def test_a_first_deployment_has_no_downtime(world: World) -> None:
    result = ask(world, NEW)
    assert result.outcome == "promoted"
    assert result.downtime_s == 0


def test_another_service_is_replaced_with_its_unit_and_state(world: World) -> None:
    world.serve(OLD)
    world.engines["img:2"].name = "qwen"
    result = ask(world, generation("qwen", "img:2"), "nano")
    assert result.outcome == "promoted"
    assert [box.name for box in world.boxes.values()] == ["qwen"]
    assert [path.name for path in world.paths.units.iterdir()] == ["sparkfleet-qwen.service"]
    assert store.services(world.paths.state) == ("qwen",)
    assert [one.id for one in store.generations(world.paths.state, "nano")] == [OLD.id]


def code_of(result: RolloutResult) -> str:
    return result.diagnostic.code if result.diagnostic else ""


FAILURES = {
    "dies at once": (Engine(end_s=3), "exit code 1", "unknown"),
    "dies while it answers": (Engine(end_s=20.2), "exit code 1", "unknown"),
    "unknown flag": (
        Engine(end_s=1, exit_code=2, log="vllm serve: error: unrecognized arguments: --nonsense 1"),
        "--nonsense",
        "unknown-flag",
    ),
    "never ready": (Engine(ready_s=10_000), "not ready after 120 s", "gate-not-ready"),
    "wedged": (Engine(wedged=True), "wedged", "gate-no-answer"),
    "wrong name": (Engine(name="other"), "wrong name: the engine serves other", "gate-name-mismatch"),
    "wrong answer": (Engine(answer="banana"), "wrong answer", "gate-answer-wrong"),
    "counter stands still": (Engine(counts=False), "counter did not move", "gate-tokens-not-counted"),
    "slow second": (Engine(completion_s=11), "no completion within 10 s", "gate-no-answer"),
    "eats memory": (Engine(ready_s=500, eats_mib_s=3000), "below the floor of 2048 MiB", "memory-floor"),
    "dockerd cannot start it": (Engine(no_start="no such luck"), "dockerd", "container-start-failed"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.provokes("gate-not-ready", "gate-name-mismatch", "container-start-failed", "memory-floor")
def test_a_bad_candidate_ends_with_the_old_generation_serving(world: World, name: str) -> None:
    engine, cause, code = FAILURES[name]
    world.engines["img:2"] = engine
    old = world.serve(OLD)
    before = picture(world)
    result = ask(world, NEW, "nano")
    assert result.outcome == "restored"
    assert cause in result.cause
    assert code_of(result) == code
    assert result.serving == ("nano",)
    assert world.serving(8000) is old
    boxes, *rest = picture(world)
    assert rest == list(before[1:])
    assert [(key, value[:2]) for key, value in boxes.items()] == [(old.id, ("nano", True))]


def test_the_engine_log_is_in_the_result_and_the_evidence(world: World) -> None:
    world.engines["img:2"] = FAILURES["unknown flag"][0]
    world.serve(OLD)
    result = ask(world, NEW, "nano")
    folder = store.rollout_directory(world.paths.state, "s1") / "evidence"
    assert "unrecognized arguments: --nonsense 1" in result.line
    assert result.exit_code == 2
    assert result.evidence == str(folder)
    assert "--nonsense" in (folder / "engine.log").read_text()
    assert (folder / "memory.csv").read_text().startswith("at,available_mib")


@pytest.mark.parametrize(
    ("at", "cause"),
    [
        (1_000_003.1, "the kernel killed the engine (VLLM::EngineCor)"),
        (990_000.0, "the engine was killed (SIGKILL)"),
    ],
    ids=["during the start", "long before"],
)
def test_the_kernel_s_log_of_the_start_explains_an_engine_that_was_killed(
    world: World, at: float, cause: str
) -> None:
    world.engines["img:2"] = Engine(end_s=3, exit_code=137)
    world.kernel_log = (
        f"[1.0] quiet\n[{at:.6f}] Out of memory: Killed process 7 (VLLM::EngineCor) total-vm:1kB\n"
    )
    world.serve(OLD)
    result = ask(world, NEW, "nano")
    assert f"exit code 137: {cause}" in result.cause


def test_a_dead_engine_fails_at_once_and_not_by_timeout(world: World) -> None:
    world.engines["img:2"] = Engine(end_s=3)
    ask(world, generation(image="img:2", gate=Gate(timeout_s=100_000)))
    assert world.clock < 1_000_000 + 60


def test_a_failed_first_deployment_leaves_nothing_behind(world: World) -> None:
    world.engines["img:2"] = Engine(end_s=3)
    before = picture(world)
    result = ask(world, NEW)
    assert result.outcome == "failed"
    assert result.serving == ()
    assert picture(world) == before


def test_an_old_generation_that_does_not_restart_is_reported(world: World) -> None:
    world.engines["img:1"].works_again = False
    world.engines["img:2"] = Engine(end_s=3)
    world.serve(OLD)
    result = ask(world, NEW, "nano")
    assert result.outcome == "failed"
    (wrong,) = result.restore_problems
    assert "not ready" in wrong.message
    assert world.active == {OLD.unit_name}


def test_what_was_stopped_before_stays_stopped_after_a_failure(world: World) -> None:
    old = world.serve(OLD)
    old.running = False
    world.active.clear()
    world.engines["img:2"] = Engine(end_s=3)
    result = ask(world, NEW, "nano")
    assert result.outcome == "failed"
    assert not old.running
    assert old.name == "nano"


def test_a_restart_policy_set_by_hand_is_removed_before_the_stop(world: World) -> None:
    old = world.serve(OLD)
    old.policy = "always"
    world.engines["img:2"] = Engine(end_s=3)
    ask(world, NEW, "nano")
    assert old.policy == "no"


def test_the_previous_container_is_recreated_if_it_was_removed_during_the_rollout(world: World) -> None:
    old = world.serve(OLD)
    world.engines["img:2"] = Engine(end_s=10)
    world.on_tick.append(lambda: (world.boxes.pop(old.id, None) if old.name == "nano.old" else None, None)[1])
    result = ask(world, NEW, "nano")
    assert result.outcome == "restored"
    again = world.named("nano")
    assert again is not None
    assert again.labels["io.sparkfleet.generation"] == OLD.id


@pytest.mark.provokes("unit-failed")
def test_systemd_refusing_the_new_unit_restores_the_old_one(world: World) -> None:
    world.serve(OLD)
    world.start_refused = "from img:2"
    before = picture(world)[1:]
    result = ask(world, NEW, "nano")
    assert result.outcome == "restored"
    assert "refused by systemd" in result.cause
    assert code_of(result) == "unit-failed"
    assert picture(world)[1:] == before


def test_a_first_deployment_that_systemd_refuses_leaves_nothing_behind(world: World) -> None:
    world.start_refused = "from img:2"
    before = picture(world)
    assert ask(world, NEW).outcome == "failed"
    assert picture(world) == before


def test_an_engine_that_dies_while_its_unit_takes_over_is_not_promoted(world: World) -> None:
    old = world.serve(OLD)
    world.dies_when_adopted = "img:2"
    result = ask(world, NEW, "nano")
    assert result.outcome == "restored"
    assert old.running


def test_units_that_used_up_their_starts_are_given_new_ones(world: World) -> None:
    old = world.serve(OLD)
    world.limited = {OLD.unit_name}
    world.engines["img:2"] = Engine(end_s=3)
    assert ask(world, NEW, "nano").outcome == "restored"
    assert old.running
    world.limited = {OLD.unit_name}
    world.engines["img:2"] = Engine()
    assert world.ask(RolloutRequest("s2", NEW, ("nano",))).outcome == "promoted"


def test_an_engine_that_survives_its_kill_is_given_up_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(OLD)
    world.engines["img:2"] = Engine(ready_s=5, eats_mib_s=30_000)
    monkeypatch.setattr(world, "kill_now", lambda *_: None)
    result = ask(world, NEW, "nano")
    assert result.outcome == "restored"
    assert "below the floor" in result.cause


def test_dockerd_going_away_in_the_middle_is_waited_out(world: World) -> None:
    old = world.serve(OLD)
    world.engines["img:2"] = Engine(end_s=10)

    def dockerd_goes() -> None:
        if old.name == "nano.old":
            world.on_tick.clear()
            world.docker_gone, world.dockerd_back_at = True, world.clock + 900

    world.on_tick.append(dockerd_goes)
    result = ask(world, NEW, "nano")
    assert result.outcome == "restored"
    assert old.running


def refuse_foreign(world: World) -> Box:
    return world.add("nano", None, "img:1")


def refuse_other(world: World) -> Box:
    box = world.add("nano", OTHER)
    box.labels["io.sparkfleet.service"] = "somebody"
    return box


def refuse_port(world: World) -> None:
    world.foreign_holders[8000] = PortOwner(321, "python3 -m http.server", "")


def refuse_image(world: World) -> None:
    del world.engines["img:2"]


def refuse_create(world: World) -> None:
    world.create_error = "invalid mount config"


def refuse_disk(world: World) -> None:
    world.free = 10


def refuse_docker(world: World) -> None:
    world.docker_gone = True


def refuse_unit(world: World) -> None:
    (world.paths.units / "sparkfleet-nano.service").write_text("[Service]\n")


def refuse_mask(world: World) -> None:
    (world.paths.units / "sparkfleet-nano.service").symlink_to("/dev/null")


REFUSALS = {
    refuse_foreign: ("not managed by sparkfleet", "container-name-taken"),
    refuse_other: ("it belongs to service somebody", "container-name-taken"),
    refuse_port: ("port 8000: held by python3 -m http.server (pid 321)", "port-in-use"),
    refuse_image: ("image img:2 is not on this Spark", "image-missing"),
    refuse_create: ("dockerd did not create the container: invalid mount config", "runtime-refused"),
    refuse_disk: ("disk full", "disk-full"),
    refuse_docker: ("dockerd does not answer", "docker-unavailable"),
    refuse_unit: ("sparkfleet-nano.service: not managed by sparkfleet", "unit-not-managed"),
    refuse_mask: ("sparkfleet-nano.service: masked", "unit-masked"),
}


@pytest.mark.parametrize("turn", REFUSALS)
@pytest.mark.provokes("image-missing", "runtime-refused")
def test_a_rollout_that_must_not_begin_touches_nothing(world: World, turn: Any) -> None:
    other = world.serve(OTHER)
    turn(world)
    before = picture(world)
    result = ask(world, NEW, "nano")
    assert result.outcome == "refused"
    text, code = REFUSALS[turn]
    assert text in result.cause
    assert code_of(result) == code
    assert picture(world) == before
    assert other.running


@pytest.mark.parametrize("expected", ["", "f" * 64])
def test_another_container_than_the_plan_saw_is_a_stale_plan(world: World, expected: str) -> None:
    world.serve(OLD)
    before = picture(world)
    result = ask(world, NEW, "nano", expect=(("nano", expected),))
    assert (result.outcome, code_of(result)) == ("stale", "host-changed-since-plan")
    assert picture(world) == before


def test_a_device_that_is_not_there_is_refused_before_anything_stops(world: World) -> None:
    world.serve(OLD)
    before = picture(world)
    result = ask(world, replace(NEW, definition=("--device", "/dev/no-such:/dev/x", *NEW.definition)), "nano")
    assert result.outcome == "refused"
    assert (result.cause, code_of(result)) == ("/dev/no-such: the device does not exist", "device-missing")
    assert picture(world) == before


def test_a_device_by_its_cdi_name_is_no_path(world: World) -> None:
    world.serve(OLD)
    candidate = replace(NEW, definition=("--device", "nvidia.com/gpu=all", *NEW.definition))
    assert ask(world, candidate, "nano").outcome == "promoted"


GPUS = replace(NEW, definition=("--gpus", "all", *NEW.definition))
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (CommandResult(18, f"{MISMATCH}\nNVML 580.95\n"), MISMATCH),
        (CommandResult(124), "nvidia-smi ended with 124"),
    ],
)
def test_a_gpu_that_does_not_answer_is_refused_before_anything_stops(
    world: World, seen: CommandResult, message: str
) -> None:
    world.serve(OLD)
    before = picture(world)
    world.driver = seen
    result = ask(world, GPUS, "nano")
    assert (result.outcome, result.cause) == ("refused", f"GPU: it does not answer: {message}")
    assert code_of(result) == "gpu-unresponsive"
    assert picture(world) == before


@pytest.mark.parametrize("seen", [CommandResult(0, "GPU 0: NVIDIA GB10\n"), CommandResult(127)])
def test_a_gpu_that_answers_or_that_cannot_be_asked_stops_nothing(world: World, seen: CommandResult) -> None:
    world.serve(OLD)
    world.driver = seen
    assert ask(world, GPUS, "nano").outcome == "promoted"


def test_a_service_without_a_gpu_does_not_ask_for_one(world: World) -> None:
    world.driver = CommandResult(9, "no driver")
    assert ask(world, NEW).outcome == "promoted"


@pytest.mark.provokes("memory-insufficient")
def test_too_little_memory_is_refused_when_nothing_gives_any_back(world: World) -> None:
    result = ask(world, generation(image="img:2", need_mib=TOTAL_MIB - 1000))
    assert (result.outcome, code_of(result)) == ("refused", "memory-insufficient")


def test_memory_of_the_replaced_engine_counts_as_coming_back(world: World) -> None:
    world.serve(OLD)
    result = ask(world, generation(image="img:2", need_mib=100_000), "nano")
    assert result.outcome == "promoted"


def test_memory_that_does_not_come_back_restores_before_the_candidate_starts(world: World) -> None:
    old = world.serve(OLD)
    world.other_memory_mib = 40_000
    result = ask(world, generation(image="img:2", need_mib=100_000), "nano")
    assert result.outcome == "restored"
    assert "memory was not freed" in result.cause
    assert code_of(result) == "memory-insufficient"
    assert old.running
    assert [box.image for box in world.boxes.values()] == ["img:1"]


@pytest.mark.parametrize(("accepts", "outcome"), [(0.5, "promoted"), (0.0, "restored")])
@pytest.mark.provokes("gate-drafts-not-accepted")
def test_declared_draft_tokens_must_be_accepted(world: World, accepts: float, outcome: str) -> None:
    world.serve(OLD)
    world.engines["img:2"].accepts = accepts
    gate = Gate(timeout_s=120, second_timeout_s=10, speculative=True)
    result = ask(world, generation(image="img:2", gate=gate), "nano")
    assert (result.outcome, code_of(result) == "gate-drafts-not-accepted") == (outcome, accepts == 0)


def test_a_base_model_is_proven_by_a_plain_completion(world: World) -> None:
    world.engines["img:2"].base_model = True
    assert ask(world, NEW).outcome == "promoted"


def test_left_overs_of_an_earlier_rollout_are_tidied_up(world: World) -> None:
    world.serve(OLD)
    world.add("nano.next", OLD, running=False)
    world.add("nano.old", OLD, running=False)
    assert ask(world, NEW, "nano").outcome == "promoted"
    assert [box.name for box in world.boxes.values()] == ["nano"]


def test_a_container_that_an_earlier_rollout_left_under_its_other_name_is_not_lost(world: World) -> None:
    only = world.add("nano.old", OLD, running=False)
    world.engines["img:2"] = Engine(end_s=5)
    assert ask(world, NEW, "nano").outcome == "failed"
    assert [(box.id, box.name) for box in world.boxes.values()] == [(only.id, "nano")]


def test_a_rollout_without_a_candidate_removes_the_services(world: World) -> None:
    world.serve(OLD)
    untouched = world.serve(OTHER)
    result = ask(world, None, "nano")
    assert result.outcome == "removed"
    assert list(world.boxes.values()) == [untouched]
    assert [path.name for path in world.paths.units.iterdir()] == ["sparkfleet-other.service"]
    assert store.services(world.paths.state) == ("other",)


def test_a_finished_rollout_is_not_run_again(world: World) -> None:
    world.serve(OLD)
    first = ask(world, NEW, "nano")
    points = world.points
    assert ask(world, NEW, "nano") == first
    assert world.points - points == 2  # writing the request, by the test itself


def test_no_secret_reaches_journal_result_or_evidence(world: World) -> None:
    secret = "hf_" + "q" * 34
    log = f"non-default args: {{'api_key': ['{secret}']}}\nRuntimeError: {secret}"
    world.engines["img:2"] = Engine(end_s=5, log=log)
    world.serve(OLD)

    def give_secret() -> None:
        for box in world.boxes.values():
            box.env = (f"HF_TOKEN={secret}",)

    world.on_tick.append(give_secret)
    ask(world, NEW, "nano")
    for path in world.paths.state.rglob("*"):
        if path.is_file():
            assert secret not in path.read_text(), path


def test_the_journal_has_steps_and_phases_in_order(world: World) -> None:
    world.serve(OLD)
    ask(world, NEW, "nano")
    events = read_events(store.rollout_directory(world.paths.state, "s1"))
    steps = [event.step for event in events if event.kind == "step"]
    assert steps == ["begin", "check", "create", "created", "stop", "start", "gate", "promote"]
    assert [event.n for event in events] == list(range(len(events)))
    assert events[-1].kind == "result"


@pytest.mark.provokes("engine-ended")
def test_an_engine_that_ends_without_an_error_is_reported_by_its_exit_code(world: World) -> None:
    world.serve(OLD)
    shards = "Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:03<00:09,  3.2s/it]"
    world.engines["img:2"] = Engine(end_s=3, exit_code=0, log=shards)
    result = ask(world, NEW, "nano")
    assert (result.cause, code_of(result)) == ("the engine ended with exit code 0", "engine-ended")


@pytest.mark.provokes("killed-by-memory-limit")
def test_the_memory_limit_of_the_container_is_the_cause_when_it_was_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(OLD)
    world.engines["img:2"] = Engine(end_s=3, exit_code=137)
    inspect = world.docker.inspect

    def at_its_limit(name: str) -> Instance | None:
        found = inspect(name)
        return found and replace(found, out_of_memory=not found.running)

    monkeypatch.setattr(world.docker, "inspect", at_its_limit)
    result = ask(world, NEW, "nano")
    assert (result.outcome, code_of(result)) == ("restored", "killed-by-memory-limit")


@pytest.mark.provokes("engine-does-not-stop")
def test_an_old_engine_that_does_not_end_keeps_serving(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serve(OLD)
    monkeypatch.setattr(world.docker, "stop", lambda *_: None)
    monkeypatch.setattr(changeover, "systemctl", lambda *_, **__: CommandResult(0))
    assert code_of(ask(world, NEW, "nano")) == "engine-does-not-stop"


@pytest.mark.provokes("rollout-failed")
def test_an_error_of_the_program_itself_rolls_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    old = world.serve(OLD)
    monkeypatch.setattr(changeover, "switch_over", broken)
    result = ask(world, NEW, "nano")
    assert (result.outcome, code_of(result)) == ("restored", "rollout-failed")
    assert result.cause.startswith("ZeroDivisionError: by zero")
    assert old.running


NO_PAGES = "NVRM: nvCheckOkFailedNoLog: Check failed: Out of memory [NV_ERR_NO_MEMORY] (0x00000051) returned"


@pytest.mark.parametrize(("large", "code"), [(120, "memory-fragmented"), (40_000, "driver-no-memory")])
@pytest.mark.provokes("memory-fragmented")
def test_no_memory_for_the_driver_while_only_small_blocks_are_free_is_named(
    world: World, large: int, code: str
) -> None:
    world.engines["img:2"] = Engine(end_s=5)
    world.serve(OLD)
    world.large_free = large
    world.kernel_log = f"[{world.clock + 5:.1f}] {NO_PAGES}\n"
    result = ask(world, NEW, "nano")
    assert code_of(result) == code
    assert ("only 120 MiB of it were in large blocks" in result.cause) == (code == "memory-fragmented")
