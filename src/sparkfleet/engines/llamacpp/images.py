"""Images with llama-server: how each is started, which release is in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

PROGRAM = "/app/llama-server"
"""Where ``ghcr.io/ggml-org/llama.cpp:server*`` has it; its entrypoint."""
_NAME = "llama-server"
_SHELLS = ("bash", "sh", "entrypoint.sh", "docker-entrypoint.sh", "nvidia_entrypoint.sh", "tini", "env")
_RELEASE = re.compile(r"(?:^|[-v])(\d+\.\d+\.\d+)")
_BUILD = re.compile(r"(?:^|-)(b\d{3,6})(?:-|$)")


def version(tag: str, labels: Mapping[str, str]) -> str:
    """Return the release in an image by its label, else by its tag; "" if unknown.

    Images are tagged ``server``, ``server-cuda``, ``server-cuda-b6123`` (a build) or with a release.
    """
    label = labels.get("org.opencontainers.image.version", "")
    for text in (label, tag):
        found = _RELEASE.search(text) or _BUILD.search(text)
        if found:
            return found.group(1)
    return ""


def command_prefix(entrypoint: Sequence[str]) -> tuple[str, ...] | None:
    """Return what precedes the arguments so that the entrypoint starts llama-server; None: it cannot."""
    if not entrypoint:
        return (PROGRAM,)
    last = entrypoint[-1].rsplit("/", 1)[-1]
    if last == _NAME:
        return ()
    if last == "tools.sh":
        return ("--server",)  # the "full" images choose the program by their first argument
    return (PROGRAM,) if last in _SHELLS else None


def arguments(argv: Sequence[str]) -> tuple[str, ...]:
    """Return llama-server's arguments in a container's argv; all of it if llama-server is not found."""
    for index, word in enumerate(argv):
        if word.rsplit("/", 1)[-1] == _NAME or (word == "--server" and index == 0):
            return tuple(argv[index + 1 :])
        if word == "--server" and argv[index - 1].endswith("tools.sh"):
            return tuple(argv[index + 1 :])
    return tuple(argv)
