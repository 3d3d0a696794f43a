"""A candidate whose engine failed while memory moved is started once more; no other failure is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.contract.rollout import Event, RolloutResult
from sparkfleet.fleet.operations.service import rollout_diagnostic, success_text
from sparkfleet.onhost.machine.system import CommandResult
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import read_events
from tests.unit.onhost.world import Engine, World, generation

OLD, NEW = generation(), generation(image="img:2")
MOVED = (
    "(EngineCore_DP0 pid=71) ERROR 11-20 19:35:27 [core.py:843] AssertionError: Error in memory profiling. "
    "Initial free memory 82.94 GiB, current free memory 90.17 GiB."
)


def ask(world: World, candidate: Generation = NEW) -> RolloutResult:
    return world.ask(RolloutRequest("s1", candidate, ("nano",)))


def events(world: World, step: str) -> list[Event]:
    found = read_events(store.rollout_directory(world.paths.state, "s1"))
    return [event for event in found if step in (event.step, event.phase)]


def test_an_engine_whose_memory_moved_is_started_once_more_and_serves(world: World) -> None:
    world.engines["img:2"] = Engine(fails_first=MOVED)
    world.serve(OLD)

    def cache_grows() -> None:
        if any(box.image == "img:2" and box.starts == 1 for box in world.boxes.values()):
            world.cache_mib = 9_000

    world.on_tick.append(cache_grows)
    result = ask(world)
    served = world.named("nano")
    assert served is not None
    assert (result.outcome, served.image, served.starts) == ("promoted", "img:2", 2)
    assert world.cache_mib == 0


def test_the_second_start_is_in_journal_result_and_output(world: World) -> None:
    world.engines["img:2"] = Engine(fails_first=MOVED)
    world.serve(OLD)
    result = ask(world)
    (retry,) = events(world, "retry")
    assert retry.diagnostic is not None
    assert retry.diagnostic.code == "memory-moved"
    assert retry.text.startswith(
        "starting nano once more: the engine ended with exit code 1: memory was freed"
    )
    assert result.first_failure == retry.diagnostic
    for text in (result.text, success_text(result)):
        assert "started twice, at first the engine ended with exit code 1: memory was freed" in text


def test_a_second_failure_is_final_and_named_beside_the_first(world: World) -> None:
    log = "(EngineCore pid=9) ERROR 11-20 19:36:27 [core.py:843] torch.OutOfMemoryError: CUDA out of memory."
    world.engines["img:2"] = Engine(fails_first=MOVED, end_s=4, log=log)
    old = world.serve(OLD)
    result = ask(world)
    assert result.outcome == "restored"
    assert world.serving(8000) is old
    assert result.diagnostic is not None
    assert "memory was freed" not in result.diagnostic.message
    assert len(events(world, "retry")) == 1
    shown = rollout_diagnostic("spark-01", "nano", result).message
    assert "started twice, at first the engine ended with exit code 1: memory was freed" in shown


def test_memory_that_moves_twice_is_not_tried_a_third_time(world: World) -> None:
    world.engines["img:2"] = Engine(end_s=3, log=MOVED)
    world.serve(OLD)
    result = ask(world)
    assert result.outcome == "restored"
    assert result.diagnostic is not None
    assert result.diagnostic.code == "memory-moved"
    assert len(events(world, "retry")) == 1


@pytest.mark.parametrize(
    "log",
    [
        "(EngineCore pid=9) ERROR 11-20 19:36:27 [core.py:843] torch.OutOfMemoryError: CUDA out of memory.",
        "vllm serve: error: unrecognized arguments: --nonsense 1",
        "",
    ],
)
def test_no_other_failure_is_retried(world: World, log: str) -> None:
    world.engines["img:2"] = Engine(end_s=3, log=log)
    world.serve(OLD)
    result = ask(world)
    assert (result.outcome, result.first_failure) == ("restored", None)
    assert not events(world, "retry")


@pytest.mark.parametrize(
    ("seen", "note"),
    [
        (CommandResult(0, "4711, /usr/bin/python3\n"), "the GPU is also used by 4711, /usr/bin/python3"),
        (CommandResult(9, "no driver"), "what else uses the GPU is unknown"),
    ],
)
def test_where_another_process_may_use_the_gpu_there_is_no_second_start(
    world: World, seen: CommandResult, note: str
) -> None:
    world.engines["img:2"] = Engine(fails_first=MOVED)
    world.gpu_processes = seen
    world.serve(OLD)
    result = ask(world)
    assert (result.outcome, result.first_failure) == ("restored", None)
    (logged,) = events(world, "retry")
    assert logged.text == f"no second start: {note}"


def test_a_process_of_the_ended_engine_may_leave_the_gpu_late(world: World) -> None:
    world.engines["img:2"] = Engine(fails_first=MOVED)
    world.gpu_processes = CommandResult(0, "71, VLLM::EngineCore\n")
    world.serve(OLD)
    started = world.clock

    def leaves() -> None:
        if world.clock > started + 10:
            world.gpu_processes = CommandResult(0)

    world.on_tick.append(leaves)
    assert ask(world).outcome == "promoted"


def test_a_rank_is_not_started_again_since_the_others_ended_with_it(world: World) -> None:
    rank = Rank("pair", 0, ("spark-01",), ("10.0.0.1",), "mp", "fingerprint")
    world.engines["img:2"] = Engine(fails_first=MOVED)
    world.serve(OLD)
    result = world.ask(RolloutRequest("s1", replace(NEW, rank=rank), ("nano",), cluster_key="t"))
    assert result.outcome == "restored"
    assert not events(world, "retry")
