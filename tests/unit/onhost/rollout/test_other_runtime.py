"""A service moves to another runtime and back: each instance is changed in the runtime of its generation."""

from __future__ import annotations

import pytest

from sparkfleet.contract.generation import Generation, RolloutRequest
from sparkfleet.contract.rollout import RolloutResult
from sparkfleet.onhost.rollout import rollout, services, snapshot
from sparkfleet.onhost.state import store
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import Role, RuntimeRefusedError
from tests.unit.onhost.rollout.test_killed_rollout import empty
from tests.unit.onhost.world import Box, Engine, Killed, World, generation

IN_DOCKER = generation()
IN_PROCESS = generation(image="img:2", runtime="process", definition=("img:2",))
ENGINES = {"img:1": Engine(), "img:2": Engine()}
MOVES = {"to the other": (IN_DOCKER, IN_PROCESS), "to docker": (IN_PROCESS, IN_DOCKER)}
both_ways = pytest.mark.parametrize(("old", "new"), MOVES.values(), ids=MOVES.keys())


def move(world: World, new: Generation, name: str = "s1") -> RolloutResult:
    (box,) = world.boxes.values()
    return world.ask(RolloutRequest(name, new, ("nano",), (("nano", box.id),)))


def check_serves(world: World, expected: Generation) -> Box:
    """There is one instance: that of the generation, in its runtime, supervised and recorded."""
    (box,) = world.boxes.values()
    assert (box.name, box.runtime, box.running) == ("nano", expected.runtime, True)
    assert box.labels["io.sparkfleet.generation"] == expected.id
    world.sleep(30)
    assert world.serving(8000) is box
    assert world.active == world.enabled == {expected.unit_name}
    record = store.current(world.paths.state, "nano")
    assert record is not None
    assert (record.id, record.container_id) == (expected.id, box.id)
    assert snapshot.current_runtime(world, "nano") is world.runtimes[expected.runtime]
    return box


@both_ways
def test_a_service_moves_and_a_rollback_moves_it_back(world: World, old: Generation, new: Generation) -> None:
    world.serve(old)
    assert move(world, new).outcome == "promoted"
    box = check_serves(world, new)
    assert box.starts == 1
    back = services.rollback(world, "nano", "back-1")
    assert (back.candidate, back.expect) == (old, (("nano", box.id),))
    assert world.ask(back).outcome == "promoted"
    check_serves(world, old)


@both_ways
def test_a_failed_gate_restores_the_former_in_its_own_runtime(
    world: World, old: Generation, new: Generation
) -> None:
    before = world.serve(old)
    world.engines[new.image] = Engine(wedged=True)
    result = move(world, new)
    assert (result.outcome, result.serving) == ("restored", ("nano",))
    assert check_serves(world, old) is before


@both_ways
def test_a_rollback_that_fails_its_gate_restores_what_ran(
    world: World, old: Generation, new: Generation
) -> None:
    world.serve(old)
    move(world, new)
    before = check_serves(world, new)
    world.engines[old.image] = Engine(end_s=5)
    assert world.ask(services.rollback(world, "nano", "back-1")).outcome == "restored"
    assert check_serves(world, new) is before


@both_ways
def test_a_former_instance_that_is_gone_is_recreated_in_its_runtime(
    world: World, old: Generation, new: Generation
) -> None:
    before = world.serve(old)
    world.engines[new.image] = Engine(wedged=True)

    def remove_by_hand() -> None:
        if world.named("nano", new.runtime):
            world.boxes.pop(before.id, None)

    world.on_tick.append(remove_by_hand)
    assert move(world, new).outcome == "restored"
    assert check_serves(world, old).id != before.id


@pytest.mark.parametrize("reboot", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("good", [True, False], ids=["passes", "fails"])
@both_ways
def test_one_generation_serves_after_a_kill_at_any_point_of_a_move(
    world: World, old: Generation, new: Generation, good: bool, reboot: bool
) -> None:
    def start() -> None:
        world.engines = {**ENGINES, new.image: Engine(end_s=0 if good else 5)}
        world.serve(old)
        world.write(RolloutRequest("s1", new, ("nano",)))
        world.points = 0

    start()
    rollout.run(world, "s1")
    outcomes = set()
    for point in range(world.points):
        empty(world)
        start()
        world.kill_at = point
        with pytest.raises(Killed):
            rollout.run(world, "s1")
        world.kill_at = -1
        world.dies()
        if reboot:
            world.reboot()
        result = rollout.run(world, "s1")
        check_serves(world, new if result.outcome == "promoted" else old)
        outcomes.add(result.outcome)
    assert outcomes == {"interrupted", "restored"} | ({"promoted"} if good else set())


def test_a_service_in_another_runtime_is_changed_without_docker(world: World) -> None:
    world.serve(IN_DOCKER)
    move(world, IN_PROCESS)
    world.docker_gone = True
    newer = generation(image="img:1", runtime="process", definition=("img:1",))
    assert move(world, newer, "s2").outcome == "promoted"
    check_serves(world, newer)
    services.remove(world, "nano")
    assert world.boxes == {}


def test_a_service_is_not_moved_away_from_docker_while_dockerd_does_not_answer(world: World) -> None:
    world.serve(IN_DOCKER)
    world.docker_gone = True
    result = move(world, IN_PROCESS)
    assert result.outcome == "refused"
    assert result.diagnostic is not None
    assert (result.diagnostic.location, result.diagnostic.code) == ("dockerd", "docker-unavailable")


def test_what_a_move_could_not_remove_is_removed_by_the_next_rollout(world: World) -> None:
    old = world.serve(IN_DOCKER)
    world.remove_error = "device or resource busy"
    assert move(world, IN_PROCESS).outcome == "promoted"
    assert world.docker.name("nano", Role.REPLACED) == old.name
    world.remove_error = ""
    newer = generation(image="img:1", runtime="process", definition=("img:1",))
    assert world.ask(RolloutRequest("s2", newer, ("nano",))).outcome == "promoted"
    check_serves(world, newer)


def test_a_foreign_instance_in_the_candidates_runtime_blocks_the_move(world: World) -> None:
    world.serve(IN_DOCKER)
    world.boxes["1"] = Box("1", "nano", {}, "img:2", runtime="process")
    result = world.ask(RolloutRequest("s1", IN_PROCESS, ("nano",)))
    assert result.diagnostic is not None
    assert (result.diagnostic.location, result.diagnostic.code) == ("process nano", "container-name-taken")


def test_drivers_are_found_by_name_and_an_unknown_one_is_refused() -> None:
    assert onhost.names() == ("docker",)
    assert onhost.runtime("docker").noun == "container"
    with pytest.raises(RuntimeRefusedError, match="these programs do not have the runtime warp"):
        onhost.runtime("warp")
