"""Progress: a line when the phase changes or after silence; nothing in between."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sparkfleet.fleet.run.progress import ProgressTable, Transfer, clock, rate_and_remaining


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
def board(time: Clock, lines: list[str]) -> ProgressTable:
    return ProgressTable(terminal=False, echo=lines.append, now=time)


def test_each_new_phase_is_one_line_with_host_time_and_text(
    board: ProgressTable, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        board.progress("spark-01", "load", "shards 1/13")
        time.at += 2
        board.progress("spark-01", "load", "shards 2/13")
        time.at += 63
        board.progress("spark-01", "graphs", "")
    assert lines == ["spark-01   0:00  load: shards 1/13", "spark-01   1:05  graphs"]


def test_a_long_phase_says_where_it_is_every_fifteen_seconds(
    board: ProgressTable, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        for shard in range(40):
            board.progress("spark-01", "load", f"shards {shard}/40")
            time.at += 1
    assert [line.split()[-1] for line in lines] == ["0/40", "15/40", "30/40"]


def test_a_lasting_line_is_printed_at_once_and_also_after_the_end(
    board: ProgressTable, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        time.at += 61
        board.log("spark-01", "connection lost")
    board.log("spark-01", "FAILED")
    assert lines == ["spark-01   1:01  connection lost", "spark-01   0:00  FAILED"]


def test_on_a_terminal_the_table_has_a_row_for_each_host_that_is_worked_on(
    time: Clock, lines: list[str]
) -> None:
    board = ProgressTable(terminal=False, echo=lines.append, now=time)
    with board.host("spark-01"), board.host("spark-02"):
        assert board.table().row_count == 2
    assert board.table().row_count == 0


def test_the_clock_counts_minutes_past_the_hour() -> None:
    assert clock(0.4) == "0:00"
    assert clock(3725) == "62:05"


MIB = 1 << 20


def test_bytes_on_their_way_have_a_rate_and_a_time_left(
    board: ProgressTable, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        for second in range(31):
            board.progress(
                "spark-01", "fetch copy", f"{second * 10} of 1000 MiB", second * 10 * MIB, 1000 * MIB
            )
            time.at += 1
    assert lines == [
        "spark-01   0:00  fetch copy: 0 of 1000 MiB",
        "spark-01   0:15  fetch copy: 150 of 1000 MiB  10 MiB/s, 85 s left",
        "spark-01   0:30  fetch copy: 300 of 1000 MiB  10 MiB/s, 70 s left",
    ]


def test_a_rate_forgets_what_is_long_ago(time: Clock) -> None:
    flow = Transfer(1000)
    for at, have in ((0, 0), (1, 500), (30, 500), (40, 500), (50, 600)):
        flow.note(at, have)
    assert flow.rate == pytest.approx(100 / 49)
    assert rate_and_remaining([flow]) == "2 B/s, 3 min left"


def test_an_unknown_pace_is_not_reported() -> None:
    flow = Transfer(10)
    assert (flow.have, flow.rate, rate_and_remaining([flow]), rate_and_remaining([])) == (0, 0, "", "")
    flow.note(1, 4)
    assert rate_and_remaining([flow]) == ""
    flow.note(2, 4)
    assert rate_and_remaining([flow]) == ""
    flow.note(3, 10)
    assert rate_and_remaining([flow]) == ""


def test_hosts_that_wait_for_bytes_are_summed_up_for_the_fleet(
    board: ProgressTable, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"), board.host("spark-02"):
        for second in range(20):
            board.progress("spark-01", "fetch copy", "", second * MIB, 100 * MIB)
            board.progress("spark-02", "fetch copy", "", second * 4 * MIB, 200 * MIB)
            time.at += 1
        assert board.table().row_count == 3
    assert lines[3] == "fleet   71 MiB of 300 MiB  5 MiB/s, 85 s left"


def test_on_a_terminal_bytes_have_a_bar(board: ProgressTable, time: Clock) -> None:
    with board.host("spark-01"):
        board.progress("spark-01", "fetch copy", "x", MIB, 4 * MIB)
        time.at += 4
        board.progress("spark-01", "fetch copy", "x", 2 * MIB, 4 * MIB)
        console = Console(width=120, file=io.StringIO())
        console.print(board.table())
        text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "256 KiB/s, 8 s left" in text
    assert "━━━━" in text


def test_the_next_phase_counts_from_zero(board: ProgressTable, time: Clock, lines: list[str]) -> None:
    with board.host("spark-01"):
        board.progress("spark-01", "fetch copy", "", 5, 10)
        time.at += 1
        board.progress("spark-01", "fetch load", "vllm")
        assert board.table().row_count == 1
    assert lines[-1] == "spark-01   0:01  fetch load: vllm"


def test_no_time_is_estimated_from_the_first_moments_of_a_transfer() -> None:
    flow = Transfer(1000)
    flow.note(0, 0)
    flow.note(1, 1)
    assert rate_and_remaining([flow]) == "1 B/s"
    flow.note(4, 500)
    assert rate_and_remaining([flow]) == "125 B/s, 4 s left"


def test_a_pause_near_the_end_of_a_long_transfer_hardly_changes_the_remaining_time() -> None:
    flow = Transfer(1000)
    for second in range(0, 595, 5):
        flow.note(second, round(second / 600 * 1000))
    assert flow.remaining == pytest.approx(10, abs=1)
    flow.note(620, 985)
    assert flow.remaining == pytest.approx(10, abs=3)


def test_a_pull_of_which_more_layers_become_known_keeps_its_rate(
    board: ProgressTable, time: Clock, lines: list[str]
) -> None:
    with board.host("spark-01"):
        for second, total in enumerate((10, 20, 40, 40, 40, 40)):
            board.progress("spark-01", "fetch pull", "", second * MIB, total * MIB)
            time.at += 5
    assert lines[-1].endswith("205 KiB/s, 3 min left")
