"""The engine images of a lab: canonical names, real entrypoints, a stand-in for the engine inside.

``contexts`` writes one build context an image. Building needs no network: the engine's stand-in and the
``hf`` command (the installed huggingface_hub, without its native transfer library) are copied in.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.standins.package import write_engine, write_llama_server

PACKAGES = "/usr/lib/python3/dist-packages"
"""Where Debian's and Ubuntu's python3 finds packages, whatever its version."""

_NATIVE = frozenset({"hf-xet"})
"""Excluded: native code that only the real hub's storage needs."""

_NVIDIA_ENTRYPOINT = """\
#!/bin/bash
# Replaces NVIDIA's entrypoint: prints a banner, then runs its arguments.
cat <<'BANNER'

==========
== vLLM ==
==========

NVIDIA Release {release} (a lab's stand-in)
Container image: nothing in it is NVIDIA's.

BANNER
if [ $# -eq 0 ]; then exec /bin/bash; fi
exec "$@"
"""


@dataclass(frozen=True)
class ImageContext:
    """What ``docker build`` needs for one image."""

    ref: str
    """Canonical name with registry and tag, as ``nvcr.io/nvidia/vllm:26.04-py3``."""
    directory: Path
    """Holds the Dockerfile and all files."""
    entrypoint: tuple[str, ...]
    vllm: str
    """Version that the engine inside reports."""
    engine: str = "vLLM"


@dataclass(frozen=True)
class _Image:
    ref: str
    vllm: str
    schema: str
    """Archived release whose flags the engine accepts: its own, or the nearest one."""
    entrypoint: tuple[str, ...]
    workdir: str
    env: tuple[tuple[str, str], ...] = ()


_NGC = ("/opt/nvidia/nvidia_entrypoint.sh",)
_GPU = (("NVIDIA_VISIBLE_DEVICES", "all"), ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"))
_OPENAI = (*_GPU, ("VLLM_USAGE_SOURCE", "production-docker-image"))

IMAGES = (
    _Image("nvcr.io/nvidia/vllm:26.04-py3", "0.19.0", "0.19.0", _NGC, "/workspace", _GPU),
    _Image("nvcr.io/nvidia/vllm:26.05-py3", "0.20.1", "0.20.2", _NGC, "/workspace", _GPU),
    _Image(
        "docker.io/vllm/vllm-openai:v0.24.0-ubuntu2404",
        "0.24.0",
        "0.24.0",
        ("vllm", "serve"),
        "/vllm-workspace",
        _OPENAI,
    ),
    _Image(
        "docker.io/vllm/vllm-openai:v0.25.1",
        "0.25.1",
        "0.25.1",
        ("vllm", "serve"),
        "/vllm-workspace",
        _OPENAI,
    ),
)

WITH_RAY = _Image("nvcr.io/nvidia/vllm:26.03-py3", "0.17.1", "0.17.1", _NGC, "/workspace", _GPU)
"""NVIDIA's last release with Ray. Built on demand: it is larger than all others in sum."""


LLAMA_CPP = "ghcr.io/ggml-org/llama.cpp:server-cuda"
LLAMA_CPP_VERSION = "0.5.0"
LLAMA_SERVER = "/app/llama-server"


def contexts(workdir: Path, base_image: str) -> list[ImageContext]:
    """Write a build context for every engine image under ``workdir``; ``base_image`` has python3.

    The layers up to the engine are the same for all images, so that they are built and stored once.
    """
    packages = workdir / "packages"
    write_hub_client(packages)
    vllm = [_context(workdir, packages, image, base_image) for image in IMAGES]
    return [*vllm, _llama_cpp_context(workdir, base_image)]


def _llama_cpp_context(workdir: Path, base_image: str) -> ImageContext:
    """Write the context of an image of llama.cpp. Like the real one it has no client of the hub."""
    directory = workdir / "llama.cpp"
    shutil.rmtree(directory, ignore_errors=True)
    write_llama_server(directory / "engine", LLAMA_CPP_VERSION)
    call = "from sparkfleet_lab.standins.llama_server.__main__ import main"
    _script(directory / "bin" / "llama-server", call)
    lines = [
        f"FROM {base_image}",
        f"COPY engine/ {PACKAGES}/",
        f"COPY bin/llama-server {LLAMA_SERVER}",
        f"LABEL org.opencontainers.image.version={LLAMA_CPP_VERSION}",
        *(f"ENV {name}={value}" for name, value in (*_GPU, ("LLAMA_ARG_HOST", "0.0.0.0"))),  # noqa: S104
        "WORKDIR /app",
        f"ENTRYPOINT {json.dumps([LLAMA_SERVER])}",
    ]
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    return ImageContext(LLAMA_CPP, directory, (LLAMA_SERVER,), LLAMA_CPP_VERSION, "llama.cpp")


def context_with_ray(workdir: Path, base_image: str, ray: Path) -> ImageContext:
    """Write the build context of the image with Ray; ``ray`` is a directory with its installed packages."""
    packages = workdir / "packages"
    write_hub_client(packages)
    context = _context(workdir, packages, WITH_RAY, base_image)
    shutil.copytree(ray, context.directory / "ray", copy_function=os.link)
    _script(context.directory / "bin" / "ray", "from ray.scripts.scripts import main")
    lines = (context.directory / "Dockerfile").read_text().splitlines()
    added = [f"COPY ray/ {PACKAGES}/", "COPY bin/ray /usr/local/bin/ray"]
    (context.directory / "Dockerfile").write_text("\n".join([lines[0], *added, *lines[1:]]) + "\n")
    return context


def _context(workdir: Path, packages: Path, image: _Image, base_image: str) -> ImageContext:
    directory = workdir / re.sub(r"[^a-z0-9.]+", "-", image.ref)
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(packages, directory / "packages", copy_function=os.link)
    write_engine(directory / "engine", image.vllm, image.schema)
    _script(directory / "bin" / "hf", "from huggingface_hub.cli.hf import main")
    _script(directory / "bin" / "vllm", "from vllm.entrypoints.cli.main import main")
    banner = directory / "nvidia" / "nvidia_entrypoint.sh"
    banner.parent.mkdir()
    banner.write_text(_NVIDIA_ENTRYPOINT.format(release=image.ref.partition(":")[2].removesuffix("-py3")))
    banner.chmod(0o755)
    (directory / "Dockerfile").write_text(_dockerfile(image, base_image))
    return ImageContext(image.ref, directory, image.entrypoint, image.vllm)


def write_hub_client(directory: Path) -> None:
    """Copy the Python files of huggingface_hub and its requirements from this environment."""
    shutil.rmtree(directory, ignore_errors=True)
    for distribution in _closure("huggingface_hub"):
        for file in distribution.files or ():
            if _belongs(file):
                target = directory / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(distribution.locate_file(file)), target)


def _belongs(file: importlib.metadata.PackagePath) -> bool:
    path = PurePosixPath(file)
    outside = ".." in path.parts or path.is_absolute() or path.name == "direct_url.json"
    return (
        not outside and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyc", ".pth", ".pyi")
    )


def _closure(name: str) -> Iterator[importlib.metadata.Distribution]:
    """Yield a distribution and everything it requires, each once."""
    pending, seen = [name], set(_NATIVE)
    while pending:
        distribution_name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if distribution_name in seen:
            continue
        seen.add(distribution_name)
        try:
            distribution = importlib.metadata.distribution(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            raise SparkfleetError(
                Diagnostic(
                    "lab images",
                    f"the Python package {distribution_name} is not installed",
                    "",
                    "pip install sparkfleet",
                    code="lab-requirement-missing",
                )
            ) from None
        yield distribution
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)


def _script(path: Path, line: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"#!/usr/bin/python3\nimport sys\n{line}\n\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    path.chmod(0o755)


def _dockerfile(image: _Image, base_image: str) -> str:
    compiled = f"RUN python3 -m compileall -q --invalidation-mode unchecked-hash {PACKAGES}"
    lines = [
        f"FROM {base_image}",
        f"COPY packages/ {PACKAGES}/",
        "COPY bin/hf /usr/local/bin/hf",
        compiled,
        f"COPY engine/ {PACKAGES}/",
        "COPY bin/vllm /usr/local/bin/vllm",
        f"{compiled}/vllm",
    ]
    if image.entrypoint == _NGC:
        lines.append("COPY nvidia/ /opt/nvidia/")
    lines += [f"ENV {name}={value}" for name, value in image.env]
    lines += [f"WORKDIR {image.workdir}", "STOPSIGNAL SIGTERM", f"ENTRYPOINT {json.dumps(image.entrypoint)}"]
    return "\n".join(lines) + "\n"
