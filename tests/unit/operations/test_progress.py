"""Progress: a line when the phase changes or after silence; nothing in between."""

from __future__ import annotations

import pytest

from sparkfleet.operations.progress import Board, clock


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def time() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def board(time: Clock, lines: list[str]) -> Board:
    return Board(terminal=False, echo=lines.append, now=time)


def test_each_new_phase_is_one_line_with_host_time_and_text(
    board: Board, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        board.tell("spark-01", "load", "shards 1/13")
        time.at += 2
        board.tell("spark-01", "load", "shards 2/13")
        time.at += 63
        board.tell("spark-01", "graphs", "")
    assert lines == ["spark-01   0:00  load: shards 1/13", "spark-01   1:05  graphs"]


def test_a_long_phase_says_where_it_is_every_fifteen_seconds(
    board: Board, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        for shard in range(40):
            board.tell("spark-01", "load", f"shards {shard}/40")
            time.at += 1
    assert [line.split()[-1] for line in lines] == ["0/40", "15/40", "30/40"]


def test_a_lasting_line_is_printed_at_once_and_also_after_the_end(
    board: Board, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        time.at += 61
        board.say("spark-01", "connection lost")
    board.say("spark-01", "FAILED")
    assert lines == ["spark-01   1:01  connection lost", "spark-01   0:00  FAILED"]


def test_on_a_terminal_the_table_has_a_row_for_each_host_that_is_worked_on(
    time: Clock, lines: list[str]
) -> None:
    board = Board(terminal=False, echo=lines.append, now=time)
    with board.host("spark-01"), board.host("spark-02"):
        assert board.table().row_count == 2
    assert board.table().row_count == 0


def test_the_clock_counts_minutes_past_the_hour() -> None:
    assert clock(0.4) == "0:00"
    assert clock(3725) == "62:05"
