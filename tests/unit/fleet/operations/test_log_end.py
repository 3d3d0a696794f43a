"""A failure without a known cause shows the end of the engine's log, and the command that shows all of it."""

from __future__ import annotations

from sparkfleet.fleet.operations.service import log_end_text


def test_the_last_lines_are_marked_and_free_of_control_characters() -> None:
    text = log_end_text("loading\n\x1b[31mValueError: no\n", "ssh spark-01 sudo cat /x/engine.log")
    assert text.splitlines() == [
        "",
        "    end of the engine's log (the whole log: ssh spark-01 sudo cat /x/engine.log):",
        "      | loading",
        "      | ?[31mValueError: no",
    ]


def test_without_a_log_nothing_is_added() -> None:
    assert log_end_text("\n", "ssh spark-01 sudo cat /x/engine.log") == ""
