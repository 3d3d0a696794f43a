"""Suggestions for mistyped names."""

from __future__ import annotations

import pytest

from sparkfleet.suggest import closest, did_you_mean


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("sprak-03", "spark-03"),
        ("spark-3", "spark-03"),
        ("SPARK_03", "spark-03"),
        ("max-num-seq", "max-num-seqs"),
    ],
)
def test_a_close_name_is_suggested(name: str, known: str) -> None:
    assert closest(name, [known, "other"]) == [known]


def test_names_that_begin_with_it_are_suggested_if_none_is_close() -> None:
    names = ["nemotron-3-nano-30b", "nemotron-3-super-120b", "gpt-oss-20b"]
    assert (
        did_you_mean("nemotron", names, "")
        == "did you mean 'nemotron-3-nano-30b' or 'nemotron-3-super-120b'?"
    )
    assert did_you_mean("ne", names, "") == ""
    assert did_you_mean("spark-1", ["spark-10"], "") == ""


@pytest.mark.parametrize(
    ("name", "known"), [("spark-99", "spark-03"), ("gpt-oss-30b", "gpt-oss-20b"), ("v0.24.0", "v0.25.0")]
)
def test_a_name_with_another_number_is_no_suggestion(name: str, known: str) -> None:
    assert did_you_mean(name, [known], "choose one of them") == "choose one of them"


@pytest.mark.parametrize(
    ("name", "known"), [("deploy", "apply"), ("ps", "status"), ("dry-run", "plan"), ("extra_args", "flags")]
)
def test_a_word_of_another_tool_suggests_what_is_meant(name: str, known: str) -> None:
    assert did_you_mean(name, ["init", known, "prune"]) == f"did you mean '{known}'?"
    assert did_you_mean(name, ["gate"]) == ""
