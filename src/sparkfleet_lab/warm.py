"""Warm machines: the engine images are pulled once, then copied into each new machine's docker directory.

Like a Spark as delivered, a machine of the lab has no images; tests of other parts start with a warm one,
since a pull costs ten seconds.
"""

from __future__ import annotations

from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import LABEL, Lab
from sparkfleet_lab.state import State


def make(docker: Docker, lab: Lab, state: State, container: str, volume: str) -> str:
    """Pull every image of the lab on a machine; return the name of a new volume with a copy of them."""
    target = f"{lab.prefix}-warm"
    for ref, digest in state.images:
        docker.run("exec", container, "docker", "pull", "-q", f"{ref.rpartition(':')[0]}@{digest}")
    units = ("docker.socket", "docker.service", "containerd.service")
    docker.run("exec", container, "systemctl", "stop", *units)
    docker.run("volume", "create", "--label", f"{LABEL}={lab.prefix}", target)
    try:
        copy(docker, state, volume, target)
    except BaseException:
        docker.run("volume", "rm", target)
        raise
    finally:
        docker.run("exec", container, "systemctl", "start", *reversed(units))
    return target


def copy(docker: Docker, state: State, source: str, target: str) -> None:
    """Copy one volume into another, with the extended attributes and device nodes of overlay layers."""
    docker.run(
        "run", "--rm", "--network", "none", *state.privileges, "-v", f"{source}:/mnt/from:ro",
        "-v", f"{target}:/mnt/to", state.spark_image,
        "cp", "-a", "/mnt/from/.", "/mnt/to/",
    )  # fmt: skip
