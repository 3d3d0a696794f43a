"""How images are known that a Spark pulled from itself, or built: by a name, by a label."""

from __future__ import annotations

import re

HOME = "127.0.0.1"
USER = "sparkfleet"
OURS = re.compile(rf"^{re.escape(HOME)}:\d+/{USER}/")
"""How the name of an image begins that was pulled from the Spark itself."""
LABEL_DERIVED = "io.sparkfleet.derived"
"""Label of a derived image: the hash of all that it is made from, which its tag is as well."""


def made(port: int, reference: str) -> str:
    """Return the name under which ``repository@digest`` is pulled from a port of the Spark's loopback."""
    repository, _, digest = reference.partition("@")
    return f"{HOME}:{port}/{USER}/{repository.replace(':', '-')}@{digest}"


def plain(reference: str) -> str:
    """Return the name of an image as its own registry knows it."""
    return OURS.sub("", reference)
