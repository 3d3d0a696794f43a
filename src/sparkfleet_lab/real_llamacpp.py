"""An image with the real llama-server, built for CPU, to check the engine's stand-in against.

The source is the one that the source distribution of llama-cpp-python carries. Building takes a quarter of an
hour once, then program and image are cached. Only ``make test-real-llamacpp`` needs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.base import Base
from sparkfleet_lab.content import digest
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import IMAGES

PACKAGE = "llama-cpp-python"
PACKAGE_VERSION = "0.3.36"
VERSION = "0.5.0"
"""Release of llama.cpp in that package."""
COMMIT = "0c1e57098"
REF = f"ghcr.io/ggml-org/llama.cpp:server-v{VERSION}"
ENTRYPOINT = ("/app/llama-server",)
TOOLS = ("cmake", "gcc", "g++")

_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_C_FLAGS_RELEASE": "-O1",
    "CMAKE_CXX_FLAGS_RELEASE": "-O1",
    "CMAKE_EXE_LINKER_FLAGS": "-static",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    "GGML_LLAMAFILE": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
    "LLAMA_BUILD_COMMIT": COMMIT,
}
"""One static program for any image; speed does not matter for a tiny model."""
_DOCKERFILE = """\
FROM {base}
COPY llama-server /app/llama-server
LABEL org.opencontainers.image.version={version}
ENV LLAMA_ARG_HOST=0.0.0.0
WORKDIR /app
ENTRYPOINT {entrypoint}
"""


def make_image(docker: Docker, base: Base, report: Callable[[str], None]) -> str:
    """Return the local tag of the image, built if this machine does not have it."""
    tag = f"{IMAGES}/real-llamacpp:{digest(base.id, _build_key(), _DOCKERFILE)}"
    if docker.inspect("image", tag) is not None:
        return tag
    program = program_file(report)
    with tempfile.TemporaryDirectory(prefix="sparkfleet-real-llamacpp-", dir="/var/tmp") as scratch:
        directory = Path(scratch)
        shutil.copy(program, directory / "llama-server")
        text = _DOCKERFILE.format(base=base.image, version=VERSION, entrypoint=json.dumps(ENTRYPOINT))
        (directory / "Dockerfile").write_text(text)
        report(f"building {tag}")
        docker.run("build", "-q", "-t", tag, str(directory))
    return tag


def _build_key() -> str:
    """Return a hash of the program's inputs, so that it is built only once."""
    return digest(PACKAGE_VERSION, json.dumps(_OPTIONS))


def program_file(report: Callable[[str], None]) -> Path:
    """Return the llama-server that was built on this machine; build it if necessary."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparkfleet"
    cached = cache / f"llama-server-{VERSION}-{_build_key()}"
    if cached.is_file():
        return cached
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise SparkfleetError(
                Diagnostic("real llama.cpp", f"{tool} is not installed", "cmake and a C++ compiler",
                           f"apt-get install {' '.join(TOOLS)}", code="lab-requirement-missing")
            )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="sparkfleet-llamacpp-", dir="/var/tmp") as scratch:
        source = _source(Path(scratch), report)
        build = Path(scratch) / "build"
        report(f"building llama-server of llama.cpp {VERSION} for CPU: a quarter of an hour")
        _run(["cmake", "-S", str(source), "-B", str(build), *[f"-D{k}={v}" for k, v in _OPTIONS.items()]])
        jobs = str(max(1, (os.cpu_count() or 2) - 1))
        _run(["nice", "cmake", "--build", str(build), "--target", "llama-server", "--parallel", jobs])
        cache.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(".partial")
        shutil.copy(build / "bin" / "llama-server", partial)
        partial.replace(cached)
    return cached


def _source(directory: Path, report: Callable[[str], None]) -> Path:
    """Return the source tree of llama.cpp in the package's source distribution."""
    report(f"fetching the source of {PACKAGE} {PACKAGE_VERSION}")
    # pip reads the metadata of a source distribution by running its build backend.
    tools = directory / "python"
    pip = (sys.executable, "-m", "pip", "--quiet")
    _run([*pip, "install", "--target", str(tools), "scikit-build-core", "flit-core"])
    args = ("--no-binary", ":all:", "--no-deps", "--no-build-isolation", "--dest", str(directory))
    _run([*pip, "download", *args, f"{PACKAGE}=={PACKAGE_VERSION}"], {"PYTHONPATH": str(tools)})
    (archive,) = directory.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    archive.unlink()
    (found,) = directory.glob("llama_cpp_python-*/vendor/llama.cpp")
    return found


def _run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        argv, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        diagnostic = Diagnostic(
            "real llama.cpp",
            f"{argv[0]} failed (exit code {done.returncode})",
            details=lines,
            code="lab-failed",
        )
        raise SparkfleetError(diagnostic)
