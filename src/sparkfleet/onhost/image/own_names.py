"""The name of an image that a Spark pulled from itself: it tells where the image came from."""

from __future__ import annotations

import re

HOME = "127.0.0.1"
USER = "sparkfleet"
OURS = re.compile(rf"^{re.escape(HOME)}:\d+/{USER}/")
"""How such a name begins."""


def made(port: int, reference: str) -> str:
    """Return the name under which ``repository@digest`` is pulled from a port of the Spark's loopback."""
    repository, _, digest = reference.partition("@")
    return f"{HOME}:{port}/{USER}/{repository.replace(':', '-')}@{digest}"


def plain(reference: str) -> str:
    """Return the name of an image as its own registry knows it."""
    return OURS.sub("", reference)
