"""The base of every lab image: Ubuntu 24.04 if a registry answers, else this machine's distribution.

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

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.apt import Apt, read_apt
from sparkfleet_lab.build import Definition, build
from sparkfleet_lab.content import digest
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import IMAGES

UBUNTU = "ubuntu:24.04"
PULL_SECONDS = 8
INCLUDE = ("python3", "ca-certificates")
_EXCLUDED = (
    "./dev/*",
    "./var/cache/apt/archives/*.deb",
    "./var/lib/apt/lists/*",
    "./etc/resolv.conf",
    "./etc/hostname",
    "./etc/apt/sources.list",
)


@dataclass(frozen=True)
class Base:
    """A base image, and the apt sources for builds on it (none: the image has its own)."""

    image: str
    id: str
    apt: Apt


def make_base(docker: Docker, report: Callable[[str], None]) -> Base:
    """Return the base image, pulled or created if this machine does not have it."""
    apt = read_apt()
    image = _tag(apt)
    if docker.inspect("image", image) is None:
        if docker.inspect("image", UBUNTU) is not None or _pull(docker):
            # Ubuntu's own image has apt sources, but no python3.
            image_id = _id(docker, UBUNTU)
            apt = Apt("", (), apt.proxy)
            definition = Definition("base", UBUNTU, image_id, INCLUDE)
            image = build(docker, definition, apt, report, f"python3 on {UBUNTU}")
        else:
            _debootstrap(docker, apt, report)
    return Base(image, _id(docker, image), apt)


def _id(docker: Docker, image: str) -> str:
    found = docker.inspect("image", image)
    if found is None:
        raise SparkfleetError(
            Diagnostic(
                "lab",
                f"the image {image} is missing right after its creation",
                hint="run again",
                code="lab-failed",
            )
        )
    return str(found["Id"])


def _tag(apt: Apt) -> str:
    recipe = digest(apt.codename, " ".join(INCLUDE), " ".join(_EXCLUDED))
    return f"{IMAGES}/base:{apt.codename or 'none'}-{recipe}"


def _pull(docker: Docker) -> bool:
    try:
        return docker.attempt("pull", "--quiet", UBUNTU, timeout=PULL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _debootstrap(docker: Docker, apt: Apt, report: Callable[[str], None]) -> None:
    archive = apt.archive
    if archive is None:
        raise SparkfleetError(
            Diagnostic(
                "lab",
                f"{UBUNTU} cannot be pulled, and this machine has no apt sources for a base system",
                "a registry that answers, or a Debian or Ubuntu machine",
                f"docker pull {UBUNTU}",
                code="lab-requirement-missing",
            )
        )
    root = _as_root()
    if shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        report("installing debootstrap (apt-get install debootstrap)")
        _run([*root, "apt-get", "install", "-y", "--no-install-recommends", "debootstrap"])
    report(f"no registry answers: creating a base system ({apt.codename}) from apt sources, 1 minute")
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
            excluded = [f"--exclude={pattern}" for pattern in _EXCLUDED]
            with subprocess.Popen(
                [*root, "tar", "-C", str(target), "--numeric-owner", *excluded, "-c", "."],
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
                "creating a base system needs root, and sudo is not installed",
                hint="run as root once",
                code="lab-requirement-missing",
            )
        )
    return ["sudo"]


def _run(argv: list[str]) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    result = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path, "LC_ALL": "C"}
    )
    if result.returncode != 0:
        output = "\n".join((result.stdout + result.stderr).strip().splitlines()[-8:])
        raise SparkfleetError(
            Diagnostic(
                " ".join(argv[:4]), output, hint="see the lines above, then run again", code="lab-failed"
            )
        )
