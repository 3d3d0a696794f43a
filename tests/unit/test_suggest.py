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


@pytest.mark.parametrize(
    ("name", "known"), [("spark-99", "spark-03"), ("gpt-oss-30b", "gpt-oss-20b"), ("v0.24.0", "v0.25.0")]
)
def test_a_name_with_another_number_is_no_suggestion(name: str, known: str) -> None:
    assert did_you_mean(name, [known], "choose one of them") == "choose one of them"
