"""``sparkfleet ask``: the answer goes to stdout, all else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sparkfleet.cli.ask import ask, measured
from sparkfleet.contract.ask import AnswerPart, AskRequest
from sparkfleet.fleet import question

END = AnswerPart(ended=True, model="nano", first_s=0.25, total_s=2.25, tokens=41)


def test_the_answer_is_separate_from_reasoning_and_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home.py").write_text("")
    requests: list[tuple[str, AskRequest]] = []

    def answer(host: str, request: AskRequest, show: Callable[[AnswerPart], None]) -> AnswerPart:
        requests.append((host, request))
        for part in (AnswerPart("hm ", reasoning=True), AnswerPart("20"), AnswerPart("4")):
            show(part)
        return END

    def on_one(_: Path, host: str, work: Callable[[Any], AnswerPart]) -> AnswerPart:
        return work(host)

    # Not the module itself: it imports pyinfra's command line, which patches the process of all tests.
    monkeypatch.setitem(sys.modules, "sparkfleet.fleet.queries", SimpleNamespace(on_one=on_one))
    monkeypatch.setattr(question, "ask", answer)
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches.before_connections", lambda: None)
    done = CliRunner().invoke(ask, [str(tmp_path / "home.py"), "spark-01/nano", "12*17?", "--timeout", "9"])
    assert (done.exit_code, done.stdout) == (0, "204\n")
    assert done.stderr == "hm \nnano: first token after 0.25 s, 20.0 tokens/s, 41 tokens in 2.25 s\n"
    assert requests == [("spark-01", AskRequest("nano", "12*17?", timeout_s=9.0))]


def test_an_answer_without_counts_or_text_has_no_rate() -> None:
    assert measured(AnswerPart(model="nano", first_s=0.5, total_s=1.0)) == (
        "nano: first token after 0.50 s, 1.00 s in all"
    )
    assert measured(AnswerPart(model="nano", total_s=1.0, tokens=3)) == "nano: no text in 1.00 s"
