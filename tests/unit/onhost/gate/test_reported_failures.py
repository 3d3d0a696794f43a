"""Logs of failed starts, rebuilt from reports of people who own Sparks, and logs without a failure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.onhost.gate import diagnosis, failure_patterns
from sparkfleet.onhost.gate.diagnosis import Sources

FIXTURES = Path(__file__).parents[3] / "fixtures" / "diagnosis"
CASES = json.loads((FIXTURES / "cases.json").read_text(encoding="utf-8"))
READER = diagnosis.reader("vllm")


def text_of(name: str) -> str:
    path = FIXTURES / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def test_every_log_is_a_case() -> None:
    logs = {path.name for path in FIXTURES.glob("a*.log") if not path.name.endswith(".kernel.log")}
    assert logs == {f"{case['log']}.log" for case in CASES}
    assert len(CASES) > 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["log"])
def test_a_reported_failure_has_its_cause(case: dict[str, Any]) -> None:
    kernel = text_of(f"{case['log']}.kernel.log")
    found = READER.diagnose_all(Sources(text_of(f"{case['log']}.log"), case["exit_code"], kernel))
    assert found is not None
    assert (found.diagnostic.code, found.diagnostic.message) == (case["id"], case["cause"])
    assert found.line.startswith(case["line"])
    assert found.diagnostic.hint


def test_what_was_survived_or_only_follows_is_not_in_a_cause() -> None:
    for case in CASES:
        assert "Engine core initialization failed" not in case["cause"]
        assert "(APIServer" not in case["cause"]


OWNERS_LINES = [(entry["line"], entry["id"]) for entry in json.loads(text_of("lines.json"))]
"""Single lines that owners posted without their log."""


@pytest.mark.parametrize(("line", "expected"), OWNERS_LINES, ids=[name for _, name in OWNERS_LINES])
def test_a_line_that_owners_posted_has_its_cause(line: str, expected: str) -> None:
    found = READER.diagnose(line)
    assert found is not None
    assert found.diagnostic.code == expected


def test_many_samples_are_lines_of_public_reports() -> None:
    sources = {
        (sample["source"], sample["text"])
        for name in engines.host_names()
        for entry in failure_patterns.read(name)["failures"]
        for sample in entry["samples"]
        if re.search(r"\w#\d+", sample["source"])
    }
    assert len(sources) >= 27 + 40


NO_FAILURE = re.split(r"^### (.*)\n", text_of("no_failure.txt"), flags=re.MULTILINE)[1:]
PIECES = list(zip(NO_FAILURE[::2], NO_FAILURE[1::2], strict=True))


def test_there_are_200_pieces_without_a_failure() -> None:
    assert len(PIECES) >= 200


@pytest.mark.parametrize("engine", engines.host_names())
@pytest.mark.parametrize(("source", "text"), PIECES, ids=[f"{n}-{s}" for n, (s, _) in enumerate(PIECES)])
def test_a_log_without_a_failure_gets_no_diagnosis(source: str, text: str, engine: str) -> None:
    reader = diagnosis.reader(engine)
    assert reader.diagnose(text) is None
    assert reader.diagnose_all(Sources("", kernel_log=text)) is None


SURROUNDINGS = (
    "2026-09-14T08:11:40.123456789Z {}",
    "Sep 14 08:11:40 spark-01 sparkfleet-nano[1234]: {}",
    "vllm-head-1  | {}",
    "\x1b[36m(ServeReplica:app pid=7, ip=10.0.0.2)\x1b[0m {}",
    "> {}",
    "\x1b[31m{}\x1b[0m\r",
)


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["log"])
def test_a_reported_failure_has_its_cause_in_any_surrounding(case: dict[str, Any], surrounding: str) -> None:
    lines = text_of(f"{case['log']}.log").splitlines()
    kernel = text_of(f"{case['log']}.kernel.log")
    log = "\n".join(surrounding.format(line) for line in lines)
    found = READER.diagnose_all(Sources(log, case["exit_code"], kernel))
    assert found is not None
    assert (found.diagnostic.code, found.diagnostic.message) == (case["id"], case["cause"])


LESS_EXACT = {"a067": "file-missing", "a099": "architecture-unknown", "a105": "nccl-system-error"}
"""What is left to say when the line with the root cause is cut off."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["log"])
def test_a_log_that_is_cut_at_the_front_gets_its_cause_or_none(case: dict[str, Any]) -> None:
    lines = text_of(f"{case['log']}.log").splitlines()
    known = {case["id"], "unknown", "engine-failed", "engine-ended-silently", LESS_EXACT.get(case["log"])}
    for first in range(len(lines)):
        found = READER.diagnose("\n".join(lines[first:]), None)
        assert found is None or found.diagnostic.code in known
