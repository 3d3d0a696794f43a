"""Names of images that a Spark pulled from itself, and the label of derived ones."""

from __future__ import annotations

import re

LOOPBACK = "127.0.0.1"
USER = "sparkfleet"
OURS = re.compile(rf"^{re.escape(LOOPBACK)}:\d+/{USER}/")
"""Matches the prefix of images that were pulled from the Spark itself."""
LABEL_DERIVED = "io.sparkfleet.derived"
"""Label of a derived image: the hash of its inputs, equal to its tag."""


def loopback_name(port: int, reference: str) -> str:
    """Return the name under which ``repository@digest`` is pulled from a port of the Spark's loopback."""
    repository, _, digest = reference.partition("@")
    return f"{LOOPBACK}:{port}/{USER}/{repository.replace(':', '-')}@{digest}"


def plain(reference: str) -> str:
    """Return the name of an image in its original registry."""
    return OURS.sub("", reference)
