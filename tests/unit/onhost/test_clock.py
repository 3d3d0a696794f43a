"""A clock that is wrong, or jumps, changes no decision on a Spark: only the times that are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.onhost.state.units import MAX_STARTS, WITHIN_S
from sparkfleet.onhost.supervisor.starts import Starts
from tests.unit.onhost.world import Engine, World, generation

YEARS = 10 * 365 * 86400.0
GOOD, BAD = Engine(), Engine(end_s=3)
NEW = generation(image="img:2")


@pytest.mark.parametrize("jump", [YEARS, -YEARS, 3600.0, -1.5])
@pytest.mark.parametrize("step", ["create", "stop", "start", "gate", "promote", "restore"])
@pytest.mark.parametrize("engine", [GOOD, BAD], ids=["good", "bad"])
def test_a_clock_that_jumps_at_any_step_of_a_rollout(
    world: World, engine: Engine, step: str, jump: float
) -> None:
    before = world.serve(generation())
    world.engines["img:2"] = engine
    events = world.paths.state / "rollouts" / "s1" / "events.jsonl"

    def tick() -> None:
        if not world.clock_error and events.exists() and f'"step": "{step}"' in events.read_text():
            world.clock_error = jump

    world.on_tick.append(tick)
    result = world.ask(RolloutRequest("s1", NEW, ("nano",)))
    assert result.outcome == ("promoted" if engine is GOOD else "restored")
    assert (world.serving(8000) is before) == (engine is BAD)
    assert result.downtime_s is None or result.downtime_s >= 0
    assert world.clock < 1_000_000 + 600


def test_starts_of_before_a_clock_was_set_back_count_for_an_hour_and_no_longer(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "starts.json")
    for number in range(MAX_STARTS):
        starts.record_start(YEARS + number)
    now = 1000.0
    assert starts.too_many(now)
    assert starts.too_many(now + WITHIN_S - 1)
    assert not starts.too_many(now + WITHIN_S + 1)


def test_starts_of_before_a_clock_was_set_forward_are_long_ago(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "starts.json")
    for number in range(MAX_STARTS):
        starts.record_start(number)
    assert not starts.too_many(YEARS)
