"""Parses names of container images."""

from __future__ import annotations

import re

from sparkfleet.desired_state import ImageRef

_NAME = re.compile(
    r"^(?:(?P<registry>localhost(?::\d+)?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?|[A-Za-z0-9-]+:\d+)/)?"
    r"(?P<path>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$",
    re.ASCII,
)


def parse(text: str) -> ImageRef:
    """Return the image of that name, by docker's rules: ``vllm/vllm-openai:x`` is on docker.io.

    Raise ``ValueError`` for an invalid name, or one with neither tag nor digest.
    """
    match = _NAME.match(text)
    if not match:
        hint = " (a digest is sha256: and 64 hex digits)" if "@" in text else ""
        raise ValueError(f"'{text}' is not a valid image name{hint}")
    registry = match["registry"] or "docker.io"
    path = match["path"]
    if registry in {"docker.io", "index.docker.io"}:
        registry = "docker.io"
        path = path if "/" in path else f"library/{path}"
    if not match["tag"] and not match["digest"]:
        raise ValueError(f"'{text}' has neither tag nor digest")
    return ImageRef(repository=f"{registry}/{path}", tag=match["tag"] or "", digest=match["digest"] or "")


def is_name(text: str) -> bool:
    """Return whether it is the name of an image, with or without tag and digest."""
    return _NAME.match(text) is not None


def registry(image: ImageRef) -> str:
    """Return the host name of the image's registry."""
    return image.repository.split("/", 1)[0]
