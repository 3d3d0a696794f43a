"""Supervisors and rollouts of a whole cluster: the order of starts, and what remains when a rank is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.supervisor.supervisor import MAX_ENDS
from tests.unit.onhost.sparks import RAY_S, Sparks

EXECUTORS = ("mp", "ray")


def expect_order(sparks: Sparks) -> None:
    """Fail unless one start of all ranks was in the executor's order."""
    (order,) = sparks.epochs()
    assert order.index(0) == (len(order) - 1 if sparks.executor == "mp" else 0)
    if sparks.executor == "ray":
        head, *workers = (at for at, _ in sparks.starts)
        assert min(workers) - head >= RAY_S


def booted(root: Path, executor: str = "mp", count: int = 2, seed: int = 0) -> Sparks:
    """Return Sparks that serve together since their boot, in the order that the seed decides."""
    sparks = Sparks(root, executor, count, seed)
    for spark in sparks.all:
        spark.serve_rank()
        spark.boot(sparks.random.uniform(0, 90))
    sparks.starts.clear()
    sparks.run(240, sparks.serves)
    return sparks


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("seed", range(50))
def test_ranks_start_in_order_whenever_their_sparks_boot(tmp_path: Path, executor: str, seed: int) -> None:
    sparks = booted(tmp_path, executor, 2 + seed % 3, seed)
    assert sparks.serves()
    expect_order(sparks)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("lost", [0, 1])
def test_all_ranks_restart_in_order_after_one_reboots(tmp_path: Path, executor: str, lost: int) -> None:
    sparks = booted(tmp_path, executor)
    sparks.run(60)
    sparks.all[lost].power_off()
    sparks.all[lost].boot(40)
    sparks.run(40)
    assert not sparks.serves()
    sparks.run(240, sparks.serves)
    assert sparks.serves()
    first, second = sparks.epochs()
    assert first == second


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("lost", [0, 1])
def test_what_is_left_of_a_cluster_runs_no_engine(tmp_path: Path, executor: str, lost: int) -> None:
    sparks = booted(tmp_path, executor)
    sparks.run(60)
    sparks.all[lost].power_off()
    sparks.run(60)
    assert sparks.images() == ["", ""]


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("lost", [0, 1])
def test_an_engine_that_ends_on_one_rank_is_restarted_on_all(
    tmp_path: Path, executor: str, lost: int
) -> None:
    sparks = booted(tmp_path, executor)
    sparks.run(60)
    (box,) = sparks.all[lost].boxes.values()
    box.running, box.exit_code = False, 1
    sparks.run(5)
    assert not sparks.serves()
    sparks.run(240, sparks.serves)
    assert sparks.serves()
    first, second = sparks.epochs()
    assert first == second


@pytest.mark.parametrize("lost", [0, 1])
def test_an_engine_that_served_is_restarted_more_often_than_systemd_would(tmp_path: Path, lost: int) -> None:
    sparks = booted(tmp_path)
    for _ in range(MAX_ENDS):
        sparks.run(60)
        for box in sparks.all[lost].boxes.values():
            box.running, box.exit_code = False, 1
        sparks.run(5)
        sparks.run(240, sparks.serves)
        assert sparks.serves()


@pytest.mark.parametrize("lost", [0, 1])
def test_an_engine_that_never_comes_to_serve_is_given_up_on_all_ranks(tmp_path: Path, lost: int) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    sparks.starts.clear()
    sparks.all[lost].engines["img:1"].end_s = 3
    sparks.run(1800)
    assert sum(rank == lost for _, rank in sparks.starts) == 3
    assert sparks.images() == ["", ""]


def test_an_engine_that_ends_repeatedly_is_given_up(tmp_path: Path) -> None:
    sparks = booted(tmp_path)
    sparks.starts.clear()
    sparks.all[0].engines["img:1"].end_s = 40
    sparks.run(3500)
    assert len(sparks.starts) < 2 * 3 * (MAX_ENDS + 2)
    assert sparks.images() == ["", ""]


def test_a_rank_that_is_cut_off_stops_its_engine_and_waits(tmp_path: Path) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    sparks.all[1].cut = True
    sparks.run(60)
    assert sparks.images() == ["", ""]
    sparks.all[1].cut = False
    sparks.run(240, sparks.serves)
    assert sparks.serves()


def test_ranks_of_different_fingerprints_do_not_start(tmp_path: Path) -> None:
    sparks = Sparks(tmp_path)
    for spark, image in zip(sparks.all, ("img:1", "img:2"), strict=True):
        spark.serve_rank(image)
        spark.boot()
    sparks.starts.clear()
    sparks.run(300)
    assert sparks.starts == []


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("seed", range(10))
def test_a_change_reaches_all_ranks_in_order(tmp_path: Path, executor: str, seed: int) -> None:
    sparks = booted(tmp_path, executor, 2 + seed % 2, seed)
    sparks.starts.clear()
    sparks.roll_out()
    sparks.run(400, lambda: len(sparks.results) == len(sparks.all))
    sparks.run(60)
    assert set(sparks.outcomes()) == {"promoted"}
    expect_order(sparks)
    assert sparks.serves()
    assert set(sparks.images()) == {"img:2"}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("bad", [0, 1])
def test_a_rank_that_ends_as_a_candidate_rolls_all_back(tmp_path: Path, executor: str, bad: int) -> None:
    sparks = booted(tmp_path, executor)
    sparks.all[bad].engines["img:2"].end_s = 8
    sparks.roll_out()
    sparks.run(600, lambda: len(sparks.results) == 2)
    assert sparks.outcomes() == ["restored", "restored"]
    assert "exit code 1" in sparks.results[1 - bad].cause
    assert f"spark-0{bad + 1}" in sparks.results[1 - bad].cause
    sparks.run(120, sparks.serves)
    assert sparks.serves()
    assert set(sparks.images()) == {"img:1"}


def test_where_one_end_brings_all_others_the_head_names_every_one_of_them(tmp_path: Path) -> None:
    sparks = booted(tmp_path, "mp", 4)
    for spark, seconds in zip(sparks.all, (5, 8, 8, 9), strict=True):
        spark.engines["img:2"].end_s = seconds
    sparks.roll_out(delays=(0, 0, 0, 0))
    sparks.run(600, lambda: len(sparks.results) == 4)
    assert sparks.outcomes() == ["restored"] * 4
    cause = sparks.results[0].cause
    assert cause.startswith("the engine ended with exit code 1")
    assert [name for name in sparks.names[1:] if f"{name} (10.0.0." in cause] == list(sparks.names[1:])


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("after", [2, 8, 14, 20, 26, 32, 38, 44])
def test_a_rank_that_reboots_during_a_change_leaves_one_generation_on_all(
    tmp_path: Path, executor: str, lost: int, after: int
) -> None:
    sparks = booted(tmp_path, executor)
    sparks.run(60)
    sparks.roll_out(delays=(0, 1))
    sparks.run(after)
    sparks.all[lost].power_off()
    sparks.all[lost].boot(40)
    sparks.run(900, lambda: len(sparks.results) == 2)
    sparks.run(300, sparks.serves)
    assert sparks.serves()
    first, second = sparks.images()
    assert first == second
    assert set(sparks.outcomes()) == {"promoted"} or "promoted" not in sparks.outcomes()


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("after", [2, 8, 14, 20, 26, 32, 38])
def test_a_rollout_that_is_killed_continues_and_leaves_one_generation_on_all(
    tmp_path: Path, lost: int, after: int
) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    sparks.roll_out(delays=(0, 1))
    sparks.run(after)
    sparks.all[lost].kill_rollout(again=1)
    sparks.run(900, lambda: len(sparks.results) == 2)
    sparks.run(300, sparks.serves)
    assert sparks.serves()
    first, second = sparks.images()
    assert first == second


def test_nothing_is_touched_when_one_rank_got_no_request(tmp_path: Path) -> None:
    sparks = booted(tmp_path)
    sparks.starts.clear()
    head = sparks.all[0]
    sparks.spawn(head, lambda: head.change("img:2", "t"))
    sparks.run(400, lambda: bool(sparks.results))
    assert sparks.outcomes() == ["refused"]
    assert sparks.starts == []
    assert sparks.serves()


@pytest.mark.parametrize("delays", [(0, 8), (8, 0)])
def test_a_member_that_refuses_is_the_cause_in_any_order(tmp_path: Path, delays: tuple[float, float]) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    sparks.starts.clear()
    sparks.all[1].free = 10
    sparks.roll_out(delays=delays)
    sparks.run(600, lambda: len(sparks.results) == 2)
    assert sparks.outcomes() == ["refused", "refused"]
    found = sparks.results[0].diagnostic
    assert found is not None
    assert (found.location, found.code) == ("nano", "disk-full")
    assert found.message.startswith("spark-02 (10.0.0.2): ")
    assert sparks.starts == []
    assert sparks.serves()


def test_a_member_that_falls_silent_during_the_candidate_start_is_the_cause(tmp_path: Path) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    sparks.roll_out(delays=(0, 1))
    sparks.run(20)
    sparks.all[1].power_off()
    sparks.run(600, lambda: bool(sparks.results))
    assert "spark-02 (10.0.0.2) did not report" in sparks.results[0].cause


@pytest.mark.parametrize("reboots", [True, False])
def test_a_member_that_is_interrupted_after_the_heads_commit_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reboots: bool
) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    member = sparks.all[1]
    lost: list[Any] = []
    ask_other = member.ask_other

    def ask(address: str, port: int, message: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        response = ask_other(address, port, message, timeout_s)
        if response and response.get("word") == "commit" and not lost:
            lost.append(response)
        return None if lost else response

    monkeypatch.setattr(member, "ask_other", ask)
    sparks.roll_out(delays=(0, 1))
    sparks.run(120, lambda: bool(lost))
    monkeypatch.undo()
    if reboots:
        member.power_off()
        member.boot(40)
    else:
        member.kill_rollout(again=1)
    sparks.run(900, lambda: len(sparks.results) == 2)
    sparks.run(300, sparks.serves)
    assert sparks.outcomes() == ["promoted", "promoted"]
    assert sparks.images() == ["img:2", "img:2"]


@pytest.mark.parametrize("lost", [0, 1])
def test_the_remedy_is_that_of_the_rank_with_the_root_cause(tmp_path: Path, lost: int) -> None:
    sparks = booted(tmp_path)
    for spark in sparks.all:
        spark.engines["img:2"].end_s = 8
    sparks.all[lost].engines["img:2"].log = "NCCL error: remote process exited or there was a network error"
    root = "RuntimeError: Failed to find C compiler. Please specify via CC"
    sparks.all[1 - lost].engines["img:2"].log = root
    sparks.roll_out(delays=(0, 0))
    sparks.run(600, lambda: len(sparks.results) == 2)
    assert "another rank ended" in sparks.results[lost].cause
    assert "no C compiler" in sparks.results[lost].cause
    found = [sparks.results[rank].diagnostic for rank in (0, 1)]
    assert [one.code for one in found if one] == ["no-compiler", "no-compiler"]
    assert [one for one in found if one and "use an image with gcc" not in one.hint] == []


def test_where_one_engines_end_brings_the_others_all_ends_are_reported(tmp_path: Path) -> None:
    sparks = booted(tmp_path)
    for spark in sparks.all:
        spark.engines["img:2"].end_s = 8
    sparks.roll_out(delays=(0, 0))
    sparks.run(600, lambda: len(sparks.results) == 2)
    assert "; spark-02 (10.0.0.2): the engine ended with exit code 1" in sparks.results[0].cause
    assert "; spark-01 (10.0.0.1): the engine ended with exit code 1" in sparks.results[1].cause


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_restart_waits_until_the_regions_of_the_ended_engine_are_released(
    tmp_path: Path, executor: str
) -> None:
    sparks = booted(tmp_path, executor)
    sparks.run(60)
    sparks.starts.clear()
    ended = sparks.clock
    for spark in sparks.all:
        (box,) = spark.boxes.values()
        box.running = False
    sparks.all[1].rdma_regions = lambda: (
        "dev rocep1s0f1 mrn 7 mrlen 64 pdn 3\n" if sparks.clock < ended + 50 else ""
    )
    sparks.run(240, sparks.serves)
    assert sparks.serves()
    assert all(at >= ended + 50 for at, rank in sparks.starts if rank == 1)
    assert any("released after" in line for line in sparks.all[1].output)
