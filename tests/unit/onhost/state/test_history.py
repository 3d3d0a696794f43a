"""The history that a Spark keeps: one bounded file, one entry for each rollout that changed something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.contract.history import FILE, OLDER_FILE, HistoryEntry, RunContext
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.rollout import rollout
from sparkfleet.onhost.state import history
from tests.unit.onhost.world import Engine, Killed, World, generation

OLD, NEW = generation(), generation(image="img:2")
CONTEXT = RunContext("serve", "c" * 40, dirty=True, changes=("~ image img:1 → img:2",))


def request(rollout_id: str = "nano-00000001") -> RolloutRequest:
    return RolloutRequest(rollout_id, NEW, ("nano",), operator="anna@desk", context=CONTEXT)


def entries(state: Path) -> list[HistoryEntry]:
    path = state / FILE
    return (
        [codec.loads(HistoryEntry, line) for line in path.read_text().splitlines()] if path.exists() else []
    )


def test_a_rollout_is_recorded_with_who_from_which_commit_what_and_how_it_ended(world: World) -> None:
    world.serve(OLD)
    result = world.ask(request())
    (entry,) = entries(world.paths.state)
    assert (entry.service, entry.outcome, entry.operator, entry.context) == (
        "nano",
        "promoted",
        "anna@desk",
        CONTEXT,
    )
    assert (entry.rollout, entry.generation, entry.before) == ("nano-00000001", NEW.id, OLD.id)
    assert (entry.text, entry.downtime_s) == (result.text, result.downtime_s)
    assert entry.duration_s is not None
    assert entry.duration_s > 0


def test_a_rollout_that_was_rolled_back_is_recorded_with_its_cause(world: World) -> None:
    world.serve(OLD)
    world.engines["img:2"].answer = "205"
    world.ask(request())
    (entry,) = entries(world.paths.state)
    assert (entry.outcome, "wrong answer" in entry.text) == ("restored", True)


def test_what_changed_nothing_is_not_recorded(world: World) -> None:
    world.serve(OLD)
    world.free = 1
    assert world.ask(request()).outcome == "refused"
    assert entries(world.paths.state) == []


def test_secrets_in_a_change_are_masked(world: World) -> None:
    world.serve(OLD)
    leaked = RunContext("serve", changes=("~ flag --api-key hf_0123456789abcdefghij",))
    world.ask(RolloutRequest("nano-00000001", NEW, ("nano",), context=leaked))
    assert "hf_0123" not in (world.paths.state / FILE).read_text()


def test_a_rollout_is_recorded_once_whenever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    writers = {name: getattr(files, name) for name in ("write_atomic", "append_line", "remove")}
    for moment in range(10_000):
        at = World(tmp_path / str(moment), {"img:1": Engine(), "img:2": Engine()})
        for name, writer in writers.items():
            monkeypatch.setattr(files, name, at.changes(writer))
        at.serve(OLD)
        at.write(request())
        at.kill_at = at.points + moment
        try:
            rollout.run(at, "nano-00000001")
        except Killed:
            at.dies()
            at.kill_at = -1
            result = rollout.run(at, "nano-00000001")
            recorded = [entry.outcome for entry in entries(at.paths.state)]
            assert recorded == ([] if result.outcome == "interrupted" else [result.outcome])
        else:
            assert moment > 50
            return


def test_a_disk_that_cannot_be_written_ends_no_rollout(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    world.serve(OLD)
    monkeypatch.setattr(history, "append", full)
    assert world.ask(request()).outcome == "promoted"


def test_the_file_is_bounded_and_the_entries_before_it_are_kept(tmp_path: Path) -> None:
    for number in range(3000):
        history.append(
            tmp_path, HistoryEntry(float(number), "nano", "promoted", "x" * 300, rollout=f"nano-{number}")
        )
    sizes = [(tmp_path / name).stat().st_size for name in (OLDER_FILE, FILE)]
    assert all(size <= history.MAX_BYTES for size in sizes)
    last = entries(tmp_path)
    older = (tmp_path / OLDER_FILE).read_text().splitlines()
    assert last[-1].rollout == "nano-2999"
    assert codec.loads(HistoryEntry, older[-1]).at == last[0].at - 1
