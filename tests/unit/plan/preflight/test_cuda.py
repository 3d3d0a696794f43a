"""Driver and image: which CUDA each has, and what comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.plan.preflight import cuda
from sparkfleet.plan.preflight.model import Verdict


@pytest.mark.parametrize(
    "driver, runs",
    [("580.95.05", "13.0"), ("590.44.01", "13.1"), ("570.86", "12.8"), ("470.1", ""), ("", "")],
)
def test_a_driver_runs_the_cuda_of_its_branch(driver: str, runs: str) -> None:
    assert cuda.of_driver(driver) == runs


def test_what_the_driver_says_itself_counts_more_than_the_table() -> None:
    assert cuda.of_driver("580.95.05", "13.2") == "13.2"


@pytest.mark.parametrize(
    "env, tag, known",
    [
        ({"CUDA_VERSION": "13.0.1"}, "cu129", "13.0.1"),
        ({}, "v0.31.0-aarch64-cu129", "12.9"),
        ({}, "cu130-nightly", "13.0"),
        ({}, "26.04-py3", ""),
    ],
)
def test_an_image_tells_its_cuda_by_its_variables_or_its_tag(
    env: dict[str, str], tag: str, known: str
) -> None:
    assert cuda.of_image(env, tag) == known


@pytest.mark.parametrize(
    "image, env, state, words",
    [
        ("13.0.1", {}, Verdict.OK, "driver 580.95.05 runs CUDA 13.0, the image has 13.0.1"),
        ("12.9", {}, Verdict.OK, "the image has 12.9"),
        ("13.1", {}, Verdict.WARN, "minor version compatibility"),
        ("14.0", {}, Verdict.WARN, "another major release"),
        ("", {}, Verdict.UNKNOWN, "the image has ?"),
        ("13.1", {"NVIDIA_REQUIRE_CUDA": "cuda>=13.1"}, Verdict.FAIL, "requires cuda>=13.1"),
        (
            "13.1",
            {"NVIDIA_REQUIRE_CUDA": "cuda>=13.1", "NVIDIA_DISABLE_REQUIRE": "true"},
            Verdict.WARN,
            "minor version compatibility",
        ),
    ],
)
def test_the_fit_of_driver_and_image_is_said_in_numbers(
    image: str, env: dict[str, str], state: Verdict, words: str
) -> None:
    found = cuda.fit("580.95.05", "", image, env)
    assert found.state is state
    assert words in found.text
    assert state is Verdict.OK or found.remedy


@pytest.mark.parametrize(
    "demand, refused",
    [
        ("cuda>=13.0 brand=tesla,driver>=535,driver<536", ""),
        ("cuda>=13.1 brand=unknown,driver>=575,driver<581", ""),
        ("cuda>=13.1 driver>=590", "cuda>=13.1"),
        ("driver!=580", "driver!=580"),
        ("driver=580.95", ""),
        ("driver<=570,cuda>=12.0", "driver<=570,cuda>=12.0"),
        ("driver>580", "driver>580"),
        ("arch>=5.0", ""),
    ],
)
def test_a_demand_is_met_when_one_of_its_alternatives_is(demand: str, refused: str) -> None:
    assert cuda.unsatisfied({"NVIDIA_REQUIRE_CUDA": demand}, "580.95.05", "13.0") == refused


@given(st.text(), st.text(), st.text())
def test_no_text_in_an_image_breaks_the_judgement(demand: str, image: str, driver: str) -> None:
    assert cuda.fit(driver, "", image, {"NVIDIA_REQUIRE_CUDA": demand}).text
