"""An engine image with the real Ray in it: what clusters with ``executor: ray`` are tried with."""

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
NEEDED = ("click>=7", "filelock", "jsonschema", "msgpack", "packaging", "protobuf", "pyyaml", "requests")
"""What Ray's core requires; no part that shows or tunes anything."""


def make_image(docker: Docker, base: Base, say: Callable[[str], None]) -> str:
    """Return the local tag of the image, built if this machine does not have it."""
    here = Path(__file__).parent
    sources = (Path(__file__).read_bytes(), (here / "standin_images.py").read_bytes())
    tag = f"{IMAGES}/engine-with-ray:{digest(base.id, *sources, tree(here / 'standins/engine'))}"
    if docker.inspect("image", tag) is not None:
        return tag
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = docker.run("run", "--rm", "--network", "none", base.image, "python3", "-c", asked).strip()
    with tempfile.TemporaryDirectory(prefix="sparkfleet-ray-", dir="/var/tmp") as scratch:
        say(f"fetching {RAY} and what it needs")
        site = Path(scratch) / "site"
        pip("install", "--target", str(site), RAY, *NEEDED, python=python)
        context = context_with_ray(Path(scratch), base.image, site)
        say(f"building {WITH_RAY.ref} (stand-in for vLLM {WITH_RAY.vllm}, with Ray)")
        docker.run("build", "-q", "-t", tag, str(context.directory))
    return tag
