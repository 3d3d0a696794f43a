"""An engine image with the real Ray, for tests of clusters with ``executor: ray``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from sparkfleet_lab.base import Base
from sparkfleet_lab.content import digest, tree
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import IMAGES
from sparkfleet_lab.real_vllm import pip
from sparkfleet_lab.standin_images import WITH_RAY, context_with_ray

RAY = "ray==2.60.0"
REQUIREMENTS = (
    "click>=7",
    "filelock",
    "jsonschema",
    "msgpack",
    "packaging",
    "protobuf",
    "pyyaml",
    "requests",
)
"""Requirements of Ray's core, without dashboard and tuning."""


def make_image(docker: Docker, base: Base, report: Callable[[str], None]) -> str:
    """Return the local tag of the image, built if this machine does not have it."""
    directory_of_lab = Path(__file__).parent
    sources = (Path(__file__).read_bytes(), (directory_of_lab / "standin_images.py").read_bytes())
    tag = f"{IMAGES}/engine-with-ray:{digest(base.id, *sources, tree(directory_of_lab / 'standins/engine'))}"
    if docker.inspect("image", tag) is not None:
        return tag
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = docker.run("run", "--rm", "--network", "none", base.image, "python3", "-c", program).strip()
    with tempfile.TemporaryDirectory(prefix="sparkfleet-ray-", dir="/var/tmp") as scratch:
        report(f"fetching {RAY} and its requirements")
        site = Path(scratch) / "site"
        pip("install", "--target", str(site), RAY, *REQUIREMENTS, python=python)
        context = context_with_ray(Path(scratch), base.image, site)
        report(f"building {WITH_RAY.ref} (stand-in for vLLM {WITH_RAY.vllm}, with Ray)")
        docker.run("build", "-q", "-t", tag, str(context.directory))
    return tag
