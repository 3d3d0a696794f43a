"""Which Python packages an image lacks, by the vLLM in it."""

from typing import Any

import pytest

from sparkfleet.engines.vllm.packages import included, lacking


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        (("ray", ""), "0.17.1"),
        (("mistral_common", ">=1.11.0"), "0.20.2"),
        (("Mistral.Common", ">=1.8"), "0.19.0"),
        (("numpy", ""), "0.19.0"),
    ],
)
def test_what_a_release_requires_its_images_have(requirement: Any, version: str) -> None:
    assert lacking([requirement], version) == ()


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        (("ray", ""), "0.18.0"),  # between two known releases, of which the older one has it
        (("ray", ">=2.50"), "0.19.0"),
        (("scipy", ">=1"), "0.24.0"),
        (("mistral_common", ">=1.11.0"), "0.19.0"),  # it requires 1.10
        (("numpy", ">=1"), "0.19.0"),  # any release of it, so nobody knows which
        (("numpy", "what"), "0.19.0"),
        (("torch", "==1.0"), "0.19.0"),
        (("numpy", ""), ""),
        (("numpy", ""), "nightly"),
    ],
)
def test_what_is_not_certain_is_lacking(requirement: Any, version: str) -> None:
    assert lacking([requirement], version) == (requirement,)


def test_missing_packages_are_in_the_order_of_the_requested_ones() -> None:
    assert lacking([("scipy", ""), ("numpy", ""), ("ray", "")], "0.24.0") == (("scipy", ""), ("ray", ""))


def test_ray_is_no_bound_for_others_where_images_come_without_it() -> None:
    assert "ray" in included("0.17.1")
    assert "ray" not in included("0.18.1")
