"""The base of every lab image: Ubuntu 24.04 where a registry answers, else this machine's distribution.

Without a registry the base is a ``debootstrap`` of the release that this machine runs, from its own apt
sources. Their addresses are used while building and are not in the image.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet_lab.apt import Apt, read_apt
from sparkfleet_lab.build import Definition, build
from sparkfleet_lab.content import digest
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import IMAGES

UBUNTU = "ubuntu:24.04"
PULL_SECONDS = 8
INCLUDE = ("python3", "ca-certificates")
_LEFT_OUT = (
    "./dev/*",
    "./var/cache/apt/archives/*.deb",
    "./var/lib/apt/lists/*",
    "./etc/resolv.conf",
    "./etc/hostname",
    "./etc/apt/sources.list",
)


@dataclass(frozen=True)
class Base:
    """A base image, and the apt sources to build on it with (none: the image has its own)."""

    image: str
    id: str
    apt: Apt


def make_base(docker: Docker, say: Callable[[str], None]) -> Base:
    """Return the base image, pulled or made if this machine does not have it."""
    apt = read_apt()
    made = _tag(apt)
    if docker.inspect("image", made) is None:
        if docker.inspect("image", UBUNTU) is not None or _pull(docker):
            # Ubuntu's own image has apt sources, but no python3.
            pulled = _id(docker, UBUNTU)
            apt = Apt("", (), apt.proxy)
            definition = Definition("base", UBUNTU, pulled, INCLUDE)
            made = build(docker, definition, apt, say, f"python3 on {UBUNTU}")
        else:
            _debootstrap(docker, apt, say)
    return Base(made, _id(docker, made), apt)


def _id(docker: Docker, image: str) -> str:
    seen = docker.inspect("image", image)
    if seen is None:
        raise SparkfleetError(
            Diagnostic(
                "lab",
                f"the image {image} is gone right after it was made",
                hint="run again",
                code="lab-failed",
            )
        )
    return str(seen["Id"])


def _tag(apt: Apt) -> str:
    recipe = digest(apt.codename, " ".join(INCLUDE), " ".join(_LEFT_OUT))
    return f"{IMAGES}/base:{apt.codename or 'none'}-{recipe}"


def _pull(docker: Docker) -> bool:
    try:
        return docker.attempt("pull", "--quiet", UBUNTU, timeout=PULL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _debootstrap(docker: Docker, apt: Apt, say: Callable[[str], None]) -> None:
    archive = apt.archive
    if archive is None:
        raise SparkfleetError(
            Diagnostic(
                "lab",
                f"{UBUNTU} cannot be pulled, and this machine has no apt sources to make a base system from",
                "a registry that answers, or a Debian or Ubuntu machine",
                f"docker pull {UBUNTU}",
                code="lab-requirement-missing",
            )
        )
    root = _as_root()
    if shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        say("installing debootstrap (apt-get install debootstrap)")
        _run([*root, "apt-get", "install", "-y", "--no-install-recommends", "debootstrap"])
    say(
        f"no registry answers: making a base system ({apt.codename}) from the machine's apt sources, 1 minute"
    )
    with tempfile.TemporaryDirectory(prefix="sparkfleet-base-", dir="/var/tmp") as scratch:
        target = Path(scratch) / "root"
        env = {"http_proxy": apt.proxy, "https_proxy": apt.proxy} if apt.proxy else {}
        set_env = ["env", *(f"{key}={value}" for key, value in env.items())] if env else []
        _run(
            [
                *root,
                *set_env,
                "debootstrap",
                "--variant=minbase",
                f"--include={','.join(INCLUDE)}",
                archive.suite,
                str(target),
                archive.uri,
            ]
        )
        try:
            left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
            with subprocess.Popen(
                [*root, "tar", "-C", str(target), "--numeric-owner", *left_out, "-c", "."],
                stdout=subprocess.PIPE,
            ) as packer:
                subprocess.run(
                    [docker.program, "import", "-", _tag(apt)],
                    stdin=packer.stdout,
                    check=True,
                    capture_output=True,
                )
        finally:
            _run([*root, "rm", "-rf", "--one-file-system", str(target)])


def _as_root() -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        raise SparkfleetError(
            Diagnostic(
                "lab",
                "making a base system needs root, and there is no sudo",
                hint="run as root once",
                code="lab-requirement-missing",
            )
        )
    return ["sudo"]


def _run(argv: list[str]) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    answer = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path, "LC_ALL": "C"}
    )
    if answer.returncode != 0:
        output = "\n".join((answer.stdout + answer.stderr).strip().splitlines()[-8:])
        raise SparkfleetError(
            Diagnostic(
                " ".join(argv[:4]), output, hint="see the lines above, then run again", code="lab-failed"
            )
        )
