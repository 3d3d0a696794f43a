"""Driver and image: which CUDA each has, and what comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.plan.preflight import cuda
from sparkfleet.plan.preflight.model import State


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
    "image, env, state, message",
    [
        ("13.0.1", {}, State.OK, "driver 580.95.05 runs CUDA 13.0, the image has 13.0.1"),
        ("12.9", {}, State.OK, "the image has 12.9"),
        ("13.1", {}, State.WARN, "minor version compatibility"),
        ("14.0", {}, State.WARN, "another major release"),
        ("", {}, State.UNKNOWN, "the image has ?"),
        ("13.1", {"NVIDIA_REQUIRE_CUDA": "cuda>=13.1"}, State.FAIL, "requires cuda>=13.1"),
        (
            "13.1",
            {"NVIDIA_REQUIRE_CUDA": "cuda>=13.1", "NVIDIA_DISABLE_REQUIRE": "true"},
            State.WARN,
            "minor version compatibility",
        ),
    ],
)
def test_the_fit_of_driver_and_image_is_reported_in_numbers(
    image: str, env: dict[str, str], state: State, message: str
) -> None:
    found = cuda.fit("driver", "580.95.05", "", image, env)
    assert found.state is state
    assert message in found.found
    assert state is State.OK or (found.diagnostic and found.diagnostic.hint)


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


@pytest.mark.provokes("driver-mismatch")
def test_a_driver_that_is_too_old_names_the_remedy() -> None:
    found = cuda.fit("driver", "570.86", "", "13.0", {}).diagnostic
    assert found is not None
    assert (found.code, "dist-upgrade" in found.hint) == ("driver-mismatch", True)


@given(st.text(), st.text(), st.text())
def test_no_text_in_an_image_breaks_the_judgement(demand: str, image: str, driver: str) -> None:
    assert cuda.fit("driver", driver, "", image, {"NVIDIA_REQUIRE_CUDA": demand}).found
