"""Guards and swaps of a whole cluster, side by side: who starts when, and what is left when one is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.onhost.sparks import Sparks

EXECUTORS = ("mp", "ray")


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
    (order,) = sparks.epochs()
    assert order.index(0) == (len(order) - 1 if executor == "mp" else 0)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("lost", [0, 1])
def test_a_rebooted_rank_brings_all_back_in_order(tmp_path: Path, executor: str, lost: int) -> None:
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
def test_an_engine_that_ends_on_one_rank_is_started_anew_on_all(
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


def test_a_rank_that_is_cut_off_stops_its_engine_and_waits(tmp_path: Path) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    sparks.all[1].cut = True
    sparks.run(60)
    assert sparks.images() == ["", ""]
    sparks.all[1].cut = False
    sparks.run(240, sparks.serves)
    assert sparks.serves()


def test_ranks_of_another_make_do_not_start_together(tmp_path: Path) -> None:
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
    sparks.swap()
    sparks.run(400, lambda: len(sparks.results) == len(sparks.all))
    sparks.run(60)
    assert set(sparks.outcomes()) == {"promoted"}
    (order,) = sparks.epochs()
    assert order.index(0) == (len(order) - 1 if executor == "mp" else 0)
    assert sparks.serves()
    assert set(sparks.images()) == {"img:2"}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("bad", [0, 1])
def test_a_rank_that_ends_in_its_trial_brings_all_back(tmp_path: Path, executor: str, bad: int) -> None:
    sparks = booted(tmp_path, executor)
    sparks.all[bad].engines["img:2"].end_s = 8
    sparks.swap()
    sparks.run(600, lambda: len(sparks.results) == 2)
    assert sparks.outcomes() == ["restored", "restored"]
    assert "exit code 1" in sparks.results[1 - bad]["cause"]
    assert f"spark-0{bad + 1}" in sparks.results[1 - bad]["cause"]
    sparks.run(120, sparks.serves)
    assert sparks.serves()
    assert set(sparks.images()) == {"img:1"}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("after", [2, 8, 14, 20, 26, 32, 38, 44])
def test_a_rank_that_reboots_during_a_change_leaves_one_make_on_all(
    tmp_path: Path, executor: str, lost: int, after: int
) -> None:
    sparks = booted(tmp_path, executor)
    sparks.run(60)
    sparks.swap(delays=(0, 1))
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
def test_a_swap_that_is_killed_goes_on_and_leaves_one_make_on_all(
    tmp_path: Path, lost: int, after: int
) -> None:
    sparks = booted(tmp_path)
    sparks.run(60)
    sparks.swap(delays=(0, 1))
    sparks.run(after)
    sparks.all[lost].kill_swap(again=1)
    sparks.run(900, lambda: len(sparks.results) == 2)
    sparks.run(300, sparks.serves)
    assert sparks.serves()
    first, second = sparks.images()
    assert first == second


def test_nothing_is_touched_when_one_rank_was_never_asked(tmp_path: Path) -> None:
    sparks = booted(tmp_path)
    sparks.starts.clear()
    head = sparks.all[0]
    sparks.spawn(head, lambda: head.change("img:2", "t"))
    sparks.run(400, lambda: bool(sparks.results))
    assert sparks.outcomes() == ["refused"]
    assert sparks.starts == []
    assert sparks.serves()
