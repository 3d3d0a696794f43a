"""Lines of logs without what surrounds their messages."""

import re

import pytest

from sparkfleet.onhost.gate import log_lines
from sparkfleet.onhost.gate.log_lines import Line

NONE = re.compile(r"^(?!)(?P<level>)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Line("")),
        ("plain", Line("plain")),
        ("    indented stays", Line("    indented stays")),
        ("INFO:     Started server process [1]", Line("Started server process [1]", "INFO")),
        ("WARNING:root:low", Line("low", "WARNING")),
        ("[ERROR] broken", Line("broken", "ERROR")),
        ("2026-09-14 08:11:40,123\tWARN worker.py:12 -- slow", Line("slow", "WARNING")),
        ("[1234.567890] NVRM: Xid", Line("NVRM: Xid")),
        ("[Mon Sep 14 08:11:40 2026] NVRM: Xid", Line("NVRM: Xid")),
        ("Sep 14 08:11:40 spark-01 kernel: [1234.567890] NVRM: Xid", Line("NVRM: Xid")),
        ("(Worker_TP1 pid=3) x", Line("x", "", "Worker_TP1 pid=3")),
        ("(no process) x", Line("(no process) x")),
        ("[rank1]:[E1224 13:23:05.48 ProcessGroupNCCL.cpp:542] x", Line("x", "ERROR")),
        ("W0914 08:11:40.123456 1234 foo.cc:12] x", Line("x", "WARNING")),
        ("/x/y.py:12: FutureWarning: old", Line("/x/y.py:12: FutureWarning: old", "WARNING")),
        ('time="09:41" level=error msg="x"', Line('time="09:41" level=error msg="x"', "ERROR")),
        ("bar 1%\rbar 2%", Line("bar 2%")),
        ("spark-01:71:71 [0] NCCL INFO Using network IB", Line("Using network IB", "INFO")),
        ("spark-01:71:71 [0] NCCL WARN broken", Line("spark-01:71:71 [0] NCCL WARN broken")),
        ("> > [rank0]: quoted", Line("quoted")),
        ("[vLLM] Traceback (most recent call last):", Line("Traceback (most recent call last):")),
        ("| NVIDIA-SMI 580.95 |", Line("| NVIDIA-SMI 580.95 |")),
        ("\x1b[1;31mred\x1b[0m", Line("red")),
    ],
)  # fmt: skip
def test_a_message_is_separated_from_level_and_process(text: str, expected: Line) -> None:
    assert log_lines.lines(text, NONE) == [expected]


def test_of_a_line_without_end_both_ends_are_read() -> None:
    (line,) = log_lines.lines("start" + "x" * 100_000 + "end", NONE)
    assert line.text.startswith("start")
    assert line.text.endswith("end")
    assert len(line.text) <= log_lines.MAX_LINE


def test_endings_of_windows_and_of_docker_s_log_file_are_read() -> None:
    found = log_lines.lines('one\r\n{"log":"two\\nthree\\n","stream":"stderr"}\n{"log":"broken', NONE)
    assert [line.text for line in found] == ["one", "two", "three", '{"log":"broken']
