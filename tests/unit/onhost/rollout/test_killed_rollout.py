"""Whenever a rollout is killed, one generation serves in the end, the old or the new one, gated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparkfleet.contract.generation import Generation, RolloutRequest
from sparkfleet.contract.rollout import RolloutResult
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.rollout import rollout
from sparkfleet.onhost.state import store
from tests.unit.onhost.world import Engine, Killed, World, generation

OLD = generation()
GOOD, BAD, WEDGED, MOVED = (generation(image=f"img:{one}") for one in ("good", "bad", "wedged", "moved"))
QWEN = generation("qwen", "img:good", served_name="nano")
ENGINES = {
    "img:1": Engine(),
    "img:good": Engine(),
    "img:bad": Engine(end_s=5),
    "img:wedged": Engine(wedged=True),
    "img:moved": Engine(
        fails_first="AssertionError: Error in memory profiling. Initial free memory 82.94 GiB, "
        "current free memory 90.17 GiB."
    ),
}
CANDIDATES = {"good": GOOD, "bad": BAD, "wedged": WEDGED, "another service": QWEN, "second start": MOVED}
SERVING = (GOOD, QWEN, MOVED)


def start(world: World, candidate: Generation) -> None:
    world.engines = dict(ENGINES)
    world.serve(OLD)
    world.write(RolloutRequest("s1", candidate, ("nano",)))
    world.points = 0


def go_on(world: World, *, reboot: bool) -> RolloutResult:
    """What systemd does after a kill: starts the program again; after a power cut: boots."""
    world.dies()
    if reboot:
        world.reboot()
        # A unit of the same service finds its container in place; a replaced one finds none and refuses.
        assert not world.failed or (world.paths.state / "services" / "qwen").exists()
        assert sum(box.running for box in world.boxes.values()) <= 1
    return rollout.run(world, "s1")


def check_promise(world: World, candidate: Generation, result: RolloutResult) -> None:
    """Exactly one generation serves, supervised, and the record agree with what runs."""
    new = result.outcome == "promoted"
    assert result.outcome in {"promoted", "restored", "interrupted"}, result
    expected = candidate if new else OLD
    assert [(box.name, box.running) for box in world.boxes.values()] == [(expected.service, True)]
    box = world.named(expected.service)
    assert box is not None
    assert box.labels["io.sparkfleet.generation"] == expected.id
    world.sleep(30)
    assert world.serving(8000) is box
    assert [path.name for path in world.paths.units.iterdir() if path.is_file()] == [expected.unit_name]
    assert (world.paths.units / expected.unit_name).read_text() == expected.unit
    assert world.enabled == world.active == {expected.unit_name}
    assert store.services(world.paths.state) == (expected.service,)
    record = store.current(world.paths.state, expected.service)
    assert record is not None
    assert (record.id, record.container_id) == (expected.id, box.id)
    assert candidate in SERVING or not new


def last_point(world: World, candidate: Generation) -> int:
    start(world, candidate)
    world.kill_at = -1
    rollout.run(world, "s1")
    return world.points


def empty(world: World) -> World:
    """The same Spark, wiped."""
    for path in world.root.iterdir():
        shutil.rmtree(path)
    world.boxes.clear()
    for names in (world.enabled, world.active, world.failed):
        names.clear()
    world.paths.units.mkdir()
    world.kill_at = -1
    return world


@pytest.mark.parametrize("reboot", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("name", CANDIDATES)
def test_one_generation_serves_after_a_kill_at_any_point(world: World, name: str, reboot: bool) -> None:
    candidate = CANDIDATES[name]
    outcomes = set()
    for point in range(last_point(world, candidate)):
        start(empty(world), candidate)
        world.kill_at = point
        with pytest.raises(Killed):
            rollout.run(world, "s1")
        world.kill_at = -1
        result = go_on(world, reboot=reboot)
        check_promise(world, candidate, result)
        outcomes.add(result.outcome)
    assert outcomes >= ({"interrupted", "restored"} | ({"promoted"} if candidate in SERVING else set()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(CANDIDATES)),
    kills=st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=2, max_size=6),
)
def test_one_generation_serves_after_kills_in_a_row(
    world: World, name: str, kills: list[tuple[int, bool]]
) -> None:
    """A restore and a promotion may be killed repeatedly, too."""
    candidate = CANDIDATES[name]
    start(empty(world), candidate)
    result: RolloutResult | None = None
    reboot = False
    for distance, next_reboot in kills:
        world.kill_at = world.points + distance
        try:
            result = go_on(world, reboot=reboot)
        except Killed:
            reboot = next_reboot
            continue
        break
    world.kill_at = -1
    result = result or go_on(world, reboot=reboot)
    check_promise(world, candidate, result)


def test_a_kill_before_the_first_deployment_is_promoted_leaves_nothing(world: World) -> None:
    world.engines = dict(ENGINES)
    world.write(RolloutRequest("s1", GOOD, ()))
    total = 0
    for point in range(200):
        empty(world)
        world.write(RolloutRequest("s1", GOOD, ()))
        world.points, world.kill_at = 0, point
        try:
            rollout.run(world, "s1")
            break
        except Killed:
            world.kill_at = -1
        result = go_on(world, reboot=False)
        total += 1
        if result.outcome == "promoted":
            assert [box.name for box in world.boxes.values()] == ["nano"]
        else:
            assert result.outcome in {"interrupted", "failed"}
            assert not world.boxes
            assert not world.enabled
            assert not list(world.paths.units.glob("*"))
    assert total > 20


def test_a_killed_removal_is_finished(world: World) -> None:
    for point in range(200):
        start(empty(world), GOOD)
        world.write(RolloutRequest("s1", None, ("nano",)))
        world.points, world.kill_at = 0, point
        try:
            rollout.run(world, "s1")
            break
        except Killed:
            world.kill_at = -1
        if go_on(world, reboot=False).outcome == "removed":
            assert not world.boxes
            assert not world.enabled
        else:
            assert world.active == {OLD.unit_name}


def test_a_rollout_that_always_dies_is_given_up_in_the_end(world: World) -> None:
    start(world, GOOD)
    for _ in range(rollout.MAX_TRIES):
        world.kill_at = world.points + 3
        with pytest.raises(Killed):
            go_on(world, reboot=False)
    world.kill_at = -1
    assert go_on(world, reboot=False).outcome == "failed"


def test_a_full_disk_in_the_middle_still_ends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(world, BAD)
    original = files.append_line

    def full(path: Path, line: str, *, sync: bool) -> None:
        if world.clock > 1_000_000 + 3 and (path.parent / "ballast").exists():
            raise OSError(28, "No space left on device")
        original(path, line, sync=sync)

    monkeypatch.setattr(files, "append_line", full)
    check_promise(world, BAD, rollout.run(world, "s1"))


@pytest.mark.provokes("rollout-interrupted")
def test_a_rollout_that_was_interrupted_before_the_stop_says_so(world: World) -> None:
    start(world, GOOD)
    world.kill_at = 1
    with pytest.raises(Killed):
        rollout.run(world, "s1")
    world.kill_at = -1
    result = go_on(world, reboot=False)
    assert result.outcome == "interrupted"
    assert result.diagnostic is not None
    assert (result.diagnostic.location, result.diagnostic.code) == ("nano", "rollout-interrupted")
