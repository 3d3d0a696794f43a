"""Container images by name: their vLLM version and how their entrypoint is used."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from sparkfleet import data_files
from sparkfleet.contract import codec

T = TypeVar("T")
SERVE = ("vllm", "serve")
NGC = "nvcr.io/nvidia/vllm"
_VERSION_TAG = re.compile(r"v(\d+\.\d+\.\d+(?:\.\d+|\.post\d+|rc\d+)?)(?:-[\w.-]+)?")
_NGC_TAG = re.compile(r"((\d\d\.\d\d)(?:\.[a-z]+\d*)?)-py3(?:-[\w.-]+)?")
_PYTHON = re.compile(r"(?:.*/)?python3?(?:\.\d+)?")
_API_SERVER = "vllm.entrypoints.openai.api_server"


@dataclass(frozen=True)
class NgcBase:
    """CUDA and driver of a release, as NVIDIA's release notes or the image's own banner have them."""

    cuda: str
    source: str
    driver: str = ""


@dataclass(frozen=True)
class Images:
    """``data/images.json``."""

    ngc: Mapping[str, str]
    """Release of ``nvcr.io/nvidia/vllm`` -> vLLM version, from NVIDIA's release notes and the engines' logs;
    25.09 is the first that runs on a Spark."""
    forks: tuple[str, ...]
    """Repositories whose vLLM has flags of its own (patterns)."""
    ngc_base: Mapping[str, NgcBase] = field(default_factory=dict)
    """Release of ``nvcr.io/nvidia/vllm`` -> what it was built for."""


@functools.cache
def read() -> Images:
    """Return what is known of images."""
    content = data_files.read("sparkfleet.engines.vllm", "data/images.json")
    return codec.parse(Images, content, "data/images.json")


def is_fork(repository: str) -> bool:
    """Return whether the repository has a fork of vLLM, also as a copy in another registry."""
    parts = repository.lower().split("/")
    names = ["/".join(parts[index:]) for index in range(len(parts))]
    return any(fnmatchcase(name, pattern) for name in names for pattern in read().forks)


def vllm_version(repository: str, tag: str) -> str:
    """Return the vLLM version by an image's name; "" if unknown (nightlies)."""
    name = re.sub(r"^(?:docker\.io/|registry-1\.docker\.io/|index\.docker\.io/)", "", repository)
    if name == NGC:
        return _of_release(read().ngc, tag) or ""
    if name.startswith("vllm/vllm-openai"):
        match = _VERSION_TAG.fullmatch(tag)
        return match[1] if match else ""
    return ""


def ngc_base(repository: str, tag: str) -> NgcBase | None:
    """Return what one of NVIDIA's images was built for; None if unknown."""
    return _of_release(read().ngc_base, tag) if repository == NGC else None


def _of_release(table: Mapping[str, T], tag: str) -> T | None:
    """Return the entry of a tag: a rebuild of a month (26.10.pre1) is like that month's, or has its own."""
    match = _NGC_TAG.fullmatch(tag)
    return table.get(match[1], table.get(match[2])) if match else None


def serve_prefix(entrypoint: Sequence[str]) -> tuple[str, ...] | None:
    """Return the arguments before the model with which the image runs ``vllm serve`` exactly once.

    None: nothing sensible can be put there, since the entrypoint runs another program; the container needs an
    ``--entrypoint`` of its own. An image without an entrypoint, or whose entrypoint is a script that runs its
    arguments (NVIDIA's, which sets up CUDA compatibility), gets the whole command.
    """
    args = tuple(entrypoint)
    if not args or args[-1].endswith(".sh") or args[-1] == "--":
        return SERVE
    program = args[0].rpartition("/")[2]
    if program == "vllm":
        return {(): ("serve",), ("serve",): ()}.get(args[1:])
    if _PYTHON.fullmatch(args[0]):
        return _python_prefix(args[1:])
    if program in ("tini", "dumb-init", "catatonit"):
        rest = tuple(word for word in args[1:] if not word.startswith("-"))
        return serve_prefix(rest)
    if program in ("sh", "bash", "dash"):
        return None if "-c" in args[1:] else SERVE
    if program == "env":
        return serve_prefix(tuple(word for word in args[1:] if "=" not in word))
    return None


def _python_prefix(args: tuple[str, ...]) -> tuple[str, ...] | None:
    """``python3 -m vllm...api_server`` takes the model as a flag; it is ``vllm serve`` in all else."""
    if args[:2] == ("-m", _API_SERVER) and len(args) == len(("-m", _API_SERVER)):
        return ("--model",)
    if args == ("-m", "vllm.entrypoints.cli.main"):
        return ("serve",)
    return None


def args_after_serve(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the args after ``vllm serve`` in a container's argv; all of it if not found."""
    args = tuple(argv)
    for index, word in enumerate(args[:-1]):
        if word.rpartition("/")[2] == "vllm" and args[index + 1] == "serve":
            return args[index + len(SERVE) :]
    return args
