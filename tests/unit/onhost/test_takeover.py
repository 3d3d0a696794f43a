"""Programs and files of an earlier version are taken over: their names, units, lock and journals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.generation import LABEL_GENERATION, RolloutRequest
from sparkfleet.onhost import main
from sparkfleet.onhost.machine import host, programs
from sparkfleet.onhost.rollout import follow, rollout, services, transient_unit
from sparkfleet.onhost.state import store
from tests.unit.onhost.world import Engine, Killed, World, generation

OLD, NEW = generation(), generation(image="img:2")
STATE = Path(__file__).parents[2] / "fixtures/host_state/f014667/root"
UNIT = STATE / "etc/systemd/system/sparkfleet-nano.service"
KILLED_AT = (1, 8, 15, 22, 29, 36, 43, 50)
"""Changes of the host after which the rollout's program is killed, over its whole length."""


def as_written_before(data: Any) -> Any:
    """Return a document without versions, with earlier names, the generation label in the definition, and
    cause and remedy in place of a diagnostic.
    """
    if isinstance(data, list):
        return [as_written_before(entry) for entry in data]
    if not isinstance(data, dict):
        return data
    if "definition" in data:
        label = f"{LABEL_GENERATION}={data['id']}"
        data = {**data, "definition": ["--label", label, *data["definition"]]}
    if isinstance(found := data.get("diagnostic"), dict):
        data = {**data, "cause": found["message"], "remedy": found["hint"]}
    return {
        {"rollout": "swap", "definition": "create"}.get(key, key): as_written_before(value)
        for key, value in data.items()
        if key not in {"version", "runtime", "diagnostic"}
    }


def make_older(state: Path) -> None:
    """Turn the state of a rollout into what an earlier version writes."""
    (state / "rollouts").rename(state / "swaps")
    (state / "rollout.lock").unlink(missing_ok=True)
    (state / "swap.lock").touch()
    for path in state.rglob("*.json"):
        data = as_written_before(json.loads(path.read_text()))
        if path.name == "before.json":
            data = data["services"]
        if path.name == "request.json":
            data["token"], data["expect"] = data.pop("cluster_key"), dict(data["expect"])
        path.write_text(json.dumps(data))
    for path in state.rglob("events.jsonl"):
        events = [as_written_before(json.loads(line)) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(event) + "\n" for event in events))


def killed_under_an_older_version(world: World, point: int) -> None:
    world.serve(OLD)
    world.write(RolloutRequest("s1", NEW, ("nano",)))
    world.points, world.kill_at = 0, point
    with pytest.raises(Killed):
        rollout.run(world, "s1")
    world.kill_at = -1
    world.dies()
    make_older(world.paths.state)


def check_one_generation_serves(world: World) -> None:
    world.sleep(60)
    (box,) = world.boxes.values()
    record = store.current(world.paths.state, "nano")
    assert record is not None
    assert (record.container_id, world.serving(8000)) == (box.id, box)
    assert record.id == box.labels["io.sparkfleet.generation"]


@pytest.mark.parametrize("point", KILLED_AT)
def test_an_unfinished_rollout_of_an_earlier_version_is_finished_after_a_reboot(
    world: World, point: int
) -> None:
    killed_under_an_older_version(world, point)
    world.reboot()
    assert world.spawned == ["s1"]
    with store.lock(world.paths.state):
        assert rollout.run(world, "s1").outcome in {"promoted", "restored", "interrupted"}
    check_one_generation_serves(world)


@pytest.mark.parametrize("point", KILLED_AT)
def test_an_unfinished_rollout_of_an_earlier_version_is_finished_before_the_next(
    world: World, point: int
) -> None:
    killed_under_an_older_version(world, point)
    code, response = transient_unit.request(world, RolloutRequest("s2", NEW, ("nano",)))
    assert (code, response.rollout, world.spawned) == (transient_unit.BUSY, "s1", ["s1"])
    rollout.run(world, "s1")
    check_one_generation_serves(world)


def test_a_restore_that_an_earlier_version_began_ends_with_its_cause_and_the_name_of_the_service(
    world: World,
) -> None:
    world.serve(OLD)
    world.engines["img:2"] = Engine(answer="I do not know")
    world.write(RolloutRequest("s1", NEW, ("nano",)))
    events = store.rollout_directory(world.paths.state, "s1") / "events.jsonl"

    def kill_in_the_restore() -> None:
        if '"step": "restore"' in events.read_text():
            world.kill_at = world.points

    world.on_tick.append(kill_in_the_restore)
    with pytest.raises(Killed):
        rollout.run(world, "s1")
    world.on_tick.clear()
    world.kill_at = -1
    world.dies()
    make_older(world.paths.state)
    written = (world.paths.state / "swaps/s1/events.jsonl").read_text()
    assert '"cause": "' in written
    assert '"diagnostic"' not in written
    result = rollout.run(world, "s1")
    assert result.outcome == "restored"
    assert result.diagnostic is not None
    assert (result.diagnostic.location, result.diagnostic.code) == ("nano", "rollout-failed")
    assert "I do not know" in result.cause
    assert "candidate" not in f"{result.cause} {result.text}"


def test_a_rollout_that_an_earlier_version_still_runs_is_followed_and_not_started_again(world: World) -> None:
    killed_under_an_older_version(world, 22)
    world.active.add("sparkfleet-swap-s1.service")  # its program goes on
    assert transient_unit.resume(world, "s1") == ""
    assert transient_unit.recover(world) == []
    assert world.spawned == []
    seen = list(follow.follow(world, "s1", 0, 0))
    assert [event.step for event in seen][:3] == ["begin", "check", "create"]
    assert list(follow.follow(world, "s1", len(seen), 1)) == []  # waits for it: not stalled


def test_a_finished_rollout_of_an_earlier_version_is_followed_to_its_result(world: World) -> None:
    world.serve(OLD)
    assert world.ask(RolloutRequest("s1", NEW, ("nano",))).outcome == "promoted"
    make_older(world.paths.state)
    path = world.paths.state / "swaps" / "s1" / "events.jsonl"
    *lines, last = path.read_text().splitlines()
    event = json.loads(last)
    path.write_text("\n".join([*lines, json.dumps({**event, **event.pop("result")})]) + "\n")
    assert list(follow.follow(world, "s1", 0, 0))[-1].result["outcome"] == "promoted"  # type: ignore[index]


def test_a_unit_that_starts_an_older_supervisor_is_replaced_while_its_engine_runs_on(world: World) -> None:
    box = world.serve(OLD)
    path = world.paths.units / OLD.unit_name
    path.write_text(UNIT.read_text())
    world.supervisor_status = programs.status("nano runs", "0" * 12)
    assert services.repair(world, OLD, "1" * 12).changed
    assert " supervise nano " in path.read_text()
    assert (box.starts, box.running) == (1, True)
    assert world.active == {OLD.unit_name}


@pytest.mark.parametrize(("older", "newer"), [("guard", "_supervise"), ("swap-run", "_rollout_run")])
def test_commands_in_units_of_an_earlier_version_start_todays_programs(
    monkeypatch: pytest.MonkeyPatch, older: str, newer: str
) -> None:
    monkeypatch.setattr(host, "Spark", lambda: None)
    called: list[object] = []

    def command(*found: object) -> int:
        called.append(found)
        return 0

    monkeypatch.setattr(main, newer, command)
    args = ("nano", "--floor-mib", "308", "--stop-timeout", "60") if older == "guard" else ("nano-1",)
    assert main.main((older, *args)) == 0
    assert len(called) == 1
