"""Builds one lab image: a base, packages, files and a script, committed under a tag that is a content hash.

Not by a Dockerfile: the apt sources are a mount of the build, so that they are in no layer and no history.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.apt import Apt
from sparkfleet_lab.content import Entry, digest, tar_of
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import IMAGES

_IMAGES_TO_KEEP = 3
"""Number of images of each kind to keep: checkouts of different versions use different ones."""

_SETUP = """\
set -eu
export DEBIAN_FRONTEND=noninteractive APT_CONFIG=/mnt/apt.conf
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -q -y --no-install-recommends {packages}
apt-get clean
rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d /var/log/apt /var/log/dpkg.log
"""


@dataclass(frozen=True)
class Definition:
    """The inputs of an image."""

    name: str
    """Last part of its repository: ``spark`` gives ``sparkfleet-lab/spark``."""
    base: str
    base_id: str
    packages: tuple[str, ...]
    """With the options of ``apt-get install`` that they need."""
    files: tuple[Entry, ...] = ()
    late_files: Callable[[], tuple[Entry, ...]] | None = None
    """Further files that take time to create: created during the build, identified before by ``key``."""
    key: str = ""
    """Hash of the inputs of ``late_files``."""
    script: str = ""
    """Shell script that runs after packages and files are installed."""
    changes: tuple[str, ...] = ()
    """Dockerfile instructions for ``docker commit --change``."""

    @property
    def tag(self) -> str:
        """Return the image's name; its tag is a hash of all inputs."""
        parts = (
            self.base_id,
            " ".join(self.packages),
            self.script,
            self.key,
            "\n".join(self.changes),
            _SETUP,
        )
        return f"{IMAGES}/{self.name}:{digest(*parts, self.files)}"


def build(docker: Docker, definition: Definition, apt: Apt, report: Callable[[str], None], note: str) -> str:
    """Return the image's tag, after building it if this machine does not have it."""
    tag = definition.tag
    if docker.inspect("image", tag) is not None:
        return tag
    report(f"building {tag}: {note}")
    with tempfile.TemporaryDirectory(prefix="sparkfleet-build-") as scratch:
        mount = Path(scratch)
        mount.chmod(0o755)
        (mount / "sources.list").write_text("".join(f"{source.line}\n" for source in apt.sources))
        (mount / "apt.conf").write_text(apt.conf("/mnt/sources.list"))
        setup = _SETUP.format(packages=" ".join(definition.packages)) if definition.packages else "set -eu\n"
        files = (*definition.files, *(definition.late_files() if definition.late_files else ()))
        unpack = "tar -C / --no-same-owner --no-overwrite-dir -xf /mnt/files.tar\n" if files else ""
        (mount / "files.tar").write_bytes(tar_of(files))
        (mount / "build.sh").write_text(setup + unpack + definition.script)
        container = docker.run("create", "-v", f"{mount}:/mnt:ro", definition.base, "sh", "/mnt/build.sh")
        try:
            _run(docker, container, tag)
            changes = [option for change in definition.changes for option in ("--change", change)]
            docker.run("commit", *changes, container, tag)
        finally:
            docker.run("rm", "-f", "-v", container)
    remove_old_images(docker, tag)
    return tag


def remove_old_images(docker: Docker, tag: str) -> None:
    """Remove all but the newest few images of a kind; Docker keeps those that a container uses."""
    repository = tag.rpartition(":")[0]
    for old in docker.lines("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository)[
        _IMAGES_TO_KEEP:
    ]:
        docker.attempt("image", "rm", old)


def _run(docker: Docker, container: str, tag: str) -> None:
    result = docker.attempt("start", "-a", container, timeout=1800)
    if result.returncode != 0:
        output = (result.stdout + b"\n" + result.stderr).decode(errors="replace").strip().splitlines()[-12:]
        raise SparkfleetError(
            Diagnostic(
                f"building {tag}",
                "\n".join(output),
                hint="see the lines above; run sparkfleet lab up again",
                code="lab-failed",
            )
        )
