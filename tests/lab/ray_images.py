"""The lab's image with Ray, in a lab's registry by its own name."""

from __future__ import annotations

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import ray_image, real_vllm
from sparkfleet_lab.base import make_base
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.standin_images import WITH_RAY
from sparkfleet_lab.state import State

IMAGE = WITH_RAY.ref


def push_image_with_ray(lab: Lab, state: State) -> None:
    """Make the image (once on this computer) and push it; fail with the reason where that cannot be."""
    docker = Docker()
    try:
        tag = ray_image.make_image(docker, make_base(docker, print), print)
        real_vllm.push(docker, tag, state.registry_url, lab.directory / "ca.pem", IMAGE)
    except SparkfleetError as error:
        pytest.fail(f"no image with Ray: {error}", pytrace=False)
